"""The connector, part by part."""
