"""A ThingWorx platform for one machine: model, REST front end, faults, control API."""
