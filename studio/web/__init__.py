"""The FastAPI application: who is let in, and the routes."""
