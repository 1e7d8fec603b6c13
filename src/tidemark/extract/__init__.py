"""Source database → Arrow batches, one module per strategy."""
