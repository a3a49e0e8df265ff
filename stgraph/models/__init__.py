"""Whole networks on batches of slice graphs."""
