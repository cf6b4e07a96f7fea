"""The flow from a queue, which has no positions, to a sink."""
