"""The step that gives the challenger its next share of the traffic."""
