"""Logic alone, without stores or network."""
