"""Account changes of honest riders: sign-ups, new phones, passwords and the like."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from simulators.ride_hailing.geography import DAY_S, Floats, Ints, Mask, leisure_times
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.requests import chance
from simulators.ride_hailing.settings import WorldSettings

CHANGES = ("signup", "phone", "password", "device", "payout_account", "email")
_SIGNUP, _DEVICE = 0, 3


@dataclass(frozen=True)
class AccountChanges:
    """n changes, arrays of shape [n]; `change` is an index in CHANGES, typology and ring as in Requests."""

    time: Floats
    rider: Ints
    device: Ints
    change: Ints
    typology: Ints
    ring: Ints

    def where(self, keep: Mask) -> AccountChanges:
        """The changes chosen by the mask."""
        return AccountChanges(*(getattr(self, f.name)[keep] for f in fields(AccountChanges)))


def signups(people: Population, rider: Ints, device: Ints, typology: Ints, ring: Ints) -> AccountChanges:
    """The creation of these riders' accounts, at their sign-up times."""
    time = people.riders.signup_time[rider]
    return AccountChanges(time, rider, device, np.full(len(rider), _SIGNUP), typology, ring)


def honest_signups(people: Population, fake: Ints, day: int, rng: np.random.Generator) -> AccountChanges:
    """Sign-ups of the day except the accounts in `fake`; a tenth on a hotel's or a relative's phone."""
    time = people.riders.signup_time
    rider = np.setdiff1d(np.flatnonzero((time >= day * DAY_S) & (time < (day + 1) * DAY_S)), fake)
    n = len(rider)
    desk = people.desk_devices[people.riders.city[rider], rng.integers(0, people.desk_devices.shape[1], n)]
    own = people.riders.shared_device[rider]
    device = np.where(chance(0.1, n, rng), desk, own)
    return signups(people, rider, device, np.zeros(n, np.int64), np.full(n, -1))


def other_changes(settings: WorldSettings, people: Population, day: int) -> AccountChanges:
    """Changes to existing accounts; a new phone is used from then on."""
    rng = settings.rng("account changes", day)
    known = np.flatnonzero(people.riders.signup_time < day * DAY_S)
    n = int(rng.poisson(settings.events_per_day * 0.009))
    rider = rng.choice(known, n)
    change = rng.choice(np.arange(1, 6), n, p=[0.15, 0.35, 0.25, 0.05, 0.2])
    for who in rider[change == _DEVICE]:
        _new_phone(people, int(who), used=rng.random() < settings.resold_share)
    return AccountChanges(
        leisure_times(day, n, rng), rider, people.riders.device[rider], change, np.zeros(n, np.int64), np.full(n, -1)
    )


def _new_phone(people: Population, who: int, *, used: bool) -> None:
    """Gives a rider another phone, which somebody sold or which is new, and sells the old one."""
    stock = people.used_devices if used and people.used_devices else people.spare_devices
    if not stock:
        return
    riders = people.riders
    old, riders.device[who] = int(riders.device[who]), stock.pop(0 if stock is people.used_devices else -1)
    if riders.shared_device[who] == old:
        riders.shared_device[who] = riders.device[who]
    if not (riders.shared_device == old).any():
        people.used_devices.append(old)
