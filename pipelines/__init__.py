"""Pipelines over the components, and the `fraud` command line."""
