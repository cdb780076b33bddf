"""Discovery: which Things are tagged, and which properties they have."""
