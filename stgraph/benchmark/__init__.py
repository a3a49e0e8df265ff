"""Tasks times data times models times splits times seeds, in one table."""
