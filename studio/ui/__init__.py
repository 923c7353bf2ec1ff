"""The page: its form, its tabs, and the components of its own."""
