"""Reviewed rules that decide beside the models: read from a file, checked, evaluated, and reloaded when it changes."""
