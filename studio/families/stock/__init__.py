"""Pipelines of diffusers that are run as they are, each for the architectures that have no step of their own here."""
