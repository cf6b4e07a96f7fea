"""The commands of `ingestd snowflake`, one file each."""
