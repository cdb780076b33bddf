"""One slot's parcels to ThingWorx."""
