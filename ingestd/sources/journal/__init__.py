"""The journal: a log of records in one SQLite file, and the source that reads it."""
