"""What can be written in a prompt, and what is put around it. No model is needed for any of it."""
