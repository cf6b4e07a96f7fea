"""`ingestd snowflake`: its actions, one file each."""
