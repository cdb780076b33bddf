"""What knows ThingWorx."""
