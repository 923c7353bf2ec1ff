"""Pictures side by side: the axes of a comparison, and contact sheets."""
