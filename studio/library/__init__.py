"""Finished pictures on disk, and the recipes in them: ours and those of other programs."""
