"""A peer of JTP/1, client and server, written from RFC.md alone."""
