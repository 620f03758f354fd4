"""The step that stops a model which should not be registered."""
