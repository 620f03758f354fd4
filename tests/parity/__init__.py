"""Online equals offline: a simulated week through ingestion and the worker, against what training would be given."""
