"""The graph predictor: scores events from the stored embeddings of their entities and their recent neighbours."""
