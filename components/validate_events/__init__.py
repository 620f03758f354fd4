"""The step that refuses a dataset which should not be trained on."""
