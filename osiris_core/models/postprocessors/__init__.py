"""What can be made of a model's outputs: one file a processor."""
