"""The command line: one file for each command, which holds its flags and what it does."""
