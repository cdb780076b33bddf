"""Tests of lambdas/assigner."""
