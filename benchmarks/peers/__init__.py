"""Other systems for the same task, beside ours: how fast, at what cost, and what becomes of the rows."""
