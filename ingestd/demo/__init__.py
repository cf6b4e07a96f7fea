"""The demo: live page and local warehouse. Imported only where a configuration enables one of them."""
