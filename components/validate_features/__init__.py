"""The step that refuses batch features which must not reach the online store."""
