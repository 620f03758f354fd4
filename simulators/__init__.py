"""The world outside: riders, drivers, abusers, delayed labels, traffic replay and a local KServe."""
