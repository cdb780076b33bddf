"""Tests of lambdas/fetcher."""
