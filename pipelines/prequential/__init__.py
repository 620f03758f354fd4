"""Prequential evaluation: every model is judged on weeks after the last thing that it learned from."""
