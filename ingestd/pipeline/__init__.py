"""The flow from a source to a sink."""
