"""Models from Hugging Face's hub, and what takes long for the Models tab."""
