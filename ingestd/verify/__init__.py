"""Behind `ingestd verify`: walks the chains in a sink, and judges them by what their objects say and hold."""
