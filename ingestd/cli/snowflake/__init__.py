"""`ingestd snowflake`: its commands, one file each."""
