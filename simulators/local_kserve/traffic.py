"""How requests are split between revisions, and which revisions a rollout is between. Pure."""

from __future__ import annotations

from dataclasses import dataclass

# A Weyl sequence of the golden ratio has a very low discrepancy: a share is never more than three requests off.
# Unlike a round robin it does not lock on to a caller's own period (Kuipers and Niederreiter 1974, ch. 2.3).
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Target:
    """A revision's share of the traffic, percent 0 to 100; `latest` marks Knative's latestRevision target."""

    revision: str
    percent: int
    latest: bool


class Split:
    """Chooses a revision for each request in proportion to its percent."""

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self.targets = targets
        self._position = 0.0

    def choose(self) -> str | None:
        """The next request's revision; None when nothing has traffic."""
        self._position = (self._position + _GOLDEN) % 1.0
        edge = 0.0
        for target in self.targets:
            edge += target.percent / 100
            if self._position < edge:
                return target.revision
        return None


@dataclass(frozen=True)
class Rollout:
    """The last two revisions that had all the traffic, as KServe keeps them in a component's status."""

    rolled_out: str | None = None
    previous: str | None = None


def plan_traffic(latest_ready: str, percent: int | None, rollout: Rollout) -> tuple[Target, ...]:
    """KServe's rule: the latest ready revision gets `percent`, the last rolled out revision the rest.

    Without `percent`, or for the first revision, which has nothing to be split with, the latest gets it all.
    """
    if percent is None or percent == 100 or rollout.rolled_out is None:
        return (Target(latest_ready, 100, latest=True),)
    return (
        Target(latest_ready, percent, latest=True),
        Target(rollout.rolled_out, 100 - percent, latest=False),
    )


def advance(latest_created: str, latest_ready: str, percent: int | None, rollout: Rollout) -> Rollout:
    """The rollout after the traffic is asked to be `percent`.

    As in KServe: a revision with all the traffic is rolled out; asking for less than 100 on the newest one when it
    is already rolled out takes it back, and the one before it is in force again.
    """
    everything = percent is None or percent == 100 or rollout.rolled_out is None
    if everything and latest_ready != rollout.rolled_out:
        return Rollout(latest_ready, rollout.rolled_out)
    taken_back = not everything and latest_created == latest_ready == rollout.rolled_out
    if taken_back and rollout.previous is not None:
        return Rollout(rollout.previous, rollout.previous)
    return rollout
