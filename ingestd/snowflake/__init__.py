"""Snowflake: the table that rows go to, what sets it up, and what tells how it is doing."""
