"""What decides a picture: its recipe, changes in mid-run, and the names of schedules."""
