"""Capacity planning for `ingestd plan`."""
