"""The Kubernetes REST API, as far as InferenceServices need it: for clients in Python, and for kubectl."""
