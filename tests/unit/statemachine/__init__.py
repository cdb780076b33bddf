"""The state machines: their promises, without AWS."""
