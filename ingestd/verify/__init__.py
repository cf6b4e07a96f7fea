"""Behind `ingestd verify`: scans the chains in a sink and checks names, metadata, bodies and committed offsets."""
