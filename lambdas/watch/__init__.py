"""Every minute: starts what is wanted or dead, retires what is empty, reports the state of the stack."""
