"""In-memory source and sink: they keep every promise of the ports."""
