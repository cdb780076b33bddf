"""Tests: promises of the product, by what they cost to run."""
