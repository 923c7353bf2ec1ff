"""What a weight file is, told by the names and shapes in its header."""
