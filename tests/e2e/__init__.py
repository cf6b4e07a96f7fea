"""The whole daemon, as a process of its own, on the real services."""
