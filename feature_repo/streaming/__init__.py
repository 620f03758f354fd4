"""Keeps the online store up to date: events in, tiles and neighbours in Redis out."""
