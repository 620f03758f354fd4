"""The step that computes the batch features of every entity and city from the event log."""
