"""Faults on real services: each one injected under load, ended, recovered from, and then every row is counted."""
