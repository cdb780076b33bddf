"""The history checker: random faults over the real handlers, then a look at everything that happened."""
