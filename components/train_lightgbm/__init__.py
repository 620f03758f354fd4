"""The step that trains the tabular model and writes its bundle."""
