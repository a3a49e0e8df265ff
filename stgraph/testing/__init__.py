"""Contract tests that every implementation inherits, ours and a researcher's own."""
