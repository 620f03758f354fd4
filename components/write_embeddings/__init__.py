"""The step that embeds every entity of the last 30 days and writes the embeddings for Feast."""
