"""Tests of lambdas/scaler."""
