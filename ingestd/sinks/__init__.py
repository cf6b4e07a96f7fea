"""Sinks: where objects go. The port is `base`."""
