"""The pure core: events, batches, the chain, object names. No I/O, no clock, no event loop."""
