"""The bridge from slice graphs to torch: `HeteroData`, parts, batches."""
