"""Discovery: give each Thing a slot, then publish the assignment."""
