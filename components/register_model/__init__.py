"""The step that publishes the bundles: registry versions, immutable folders, an alias."""
