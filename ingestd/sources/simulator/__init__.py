"""Simulated events as a source."""
