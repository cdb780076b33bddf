"""Discovery: open slot queues and start connectors."""
