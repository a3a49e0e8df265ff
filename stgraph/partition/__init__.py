"""A slice graph cut into parts that fit a training step."""
