"""The step that publishes batch features and brings the online store up to date with them."""
