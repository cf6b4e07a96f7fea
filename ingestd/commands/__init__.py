"""The commands beside `run`: what each does with its settings and options; their flags are in `ingestd.cli`."""
