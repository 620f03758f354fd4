"""The way to the online store: what a batch asks of Redis, over which connections, and what the answers mean."""
