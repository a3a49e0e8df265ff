"""Counts to features: AnnData in, arrays out, nothing of torch."""
