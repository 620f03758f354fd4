"""The step that combines both models' log-odds and derives the decision thresholds."""
