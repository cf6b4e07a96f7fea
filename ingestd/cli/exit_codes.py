"""The commands beside `run`: what each does with its settings and options; their flags are in `ingestd.cli.main`."""

PROBLEMS = 4  # the exit code of a command that has inspected something and found it wrong
