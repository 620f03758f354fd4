"""The Feast repository: event schemas, entities, views, feature logic, streaming worker and fast reader."""
