"""Sources: where records come from. The port is `base`."""
