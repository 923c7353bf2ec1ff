"""Which models there are, and which are loaded."""
