"""Trains the propensity model on simulated history, and measures it on clients that it has not seen."""
