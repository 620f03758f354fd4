"""The step that trains the two-stage graph network and scores the dataset with it, day by day as it would have run."""
