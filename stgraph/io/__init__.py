"""Files to canonical AnnData: counts in ``X``, microns in ``obsm["spatial"]``, the slice in ``obs``."""
