"""Names of other packages that are private to them, all in one place: an upgrade may take any of them away.

A file for each package, so that nobody imports torch or Gradio who only wants a private name of another, and what is
large is imported within the functions. tests/test_compat.py uses each name, so an upgrade that takes one away fails
there first. A private name begins with an underscore, or stands in a module that its package does not document.
"""
