"""Second-hand phones of people who need more than one."""

from __future__ import annotations

import numpy as np

from simulators.ride_hailing.geography import Ints
from simulators.ride_hailing.population import Population


def spare_phones(people: Population, owners: int, each: int, rng: np.random.Generator) -> Ints:
    """`each` phones for each owner, shape [owners, each]; in a world short of phones an honest rider's is one."""
    wanted = owners * each
    spares = [people.spare_devices.pop() for _ in range(min(wanted, len(people.spare_devices)))]
    lent = rng.choice(len(people.riders.city), wanted - len(spares))
    return np.concatenate([np.array(spares, np.int64), lent]).reshape(owners, each)
