"""The step that gives the canary all traffic, and moves the alias champion after the last model."""
