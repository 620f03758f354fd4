"""What can go wrong with a simulated world."""


class SimulationError(Exception):
    """A world cannot be written or read; the message says why and what to do."""
