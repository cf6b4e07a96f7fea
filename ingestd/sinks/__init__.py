"""Sinks store objects: the port is `base`; `s3` and `local` implement it."""
