"""The step that joins features, labels and splits into one training set."""
