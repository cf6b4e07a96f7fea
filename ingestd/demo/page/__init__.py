"""The live page: what goes through the daemon, as a person likes to see it, and what a demo may do to it."""
