"""The configuration: its types, where values come from, and what is checked."""
