"""A daemon under load for as long as you like, watched every second, and judged at the end. See `__main__`."""
