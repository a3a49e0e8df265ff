"""Jobs a person asks for: AnnData in, AnnData out."""
