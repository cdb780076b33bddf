"""Tests of lambdas/shared."""
