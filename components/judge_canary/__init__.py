"""The step that says whether a canary may go on, must go back, or needs more traffic."""
