"""The demo: live page and local warehouse (`ingestd[demo]`)."""
