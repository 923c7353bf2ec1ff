"""Emerge Studio: a browser studio for painting with diffusion models."""

__version__ = "0.1.0"
