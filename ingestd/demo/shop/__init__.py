"""The shop: a small web site for the audience of a demo, whose clicks are ingested beside the simulated events."""

TOPIC = "shop"  # of the visitors' events
SOURCE = "shop"  # of the collector, and the key in the pages
