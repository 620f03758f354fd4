"""The step that watches a canary until it has shown enough, or for as long as it may take."""
