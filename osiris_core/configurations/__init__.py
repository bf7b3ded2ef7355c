"""Configuration files: what is read, included and filled in, and which class it becomes."""
