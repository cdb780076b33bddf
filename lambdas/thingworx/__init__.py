"""What knows ThingWorx: base types and its protocols."""
