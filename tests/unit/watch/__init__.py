"""The watch function's decisions, without AWS."""
