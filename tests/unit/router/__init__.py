"""The router, batch by batch."""
