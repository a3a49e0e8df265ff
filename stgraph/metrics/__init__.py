"""Numbers that judge predictions: arrays in, names and values out."""
