"""Proof that the simulated city is hard: what shortcuts reach there, against a model of the real features."""
