"""Kinesis records to parcels on slot queues."""
