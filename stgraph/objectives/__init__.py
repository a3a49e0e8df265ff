"""What a model is trained to do: a batch is spoilt, the model mends it, losses have names."""
