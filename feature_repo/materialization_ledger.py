"""What materialisation has written, kept in the Redis that it wrote to, so that both are lost together.

Feast's registry keeps intervals of its own, but outside of Redis: it would go on from where an emptied Redis no longer
is. It also knows times only, not rows: a publication that was corrected after the fact would never be written.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from redis import Redis, RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from feature_repo.errors import RunSuperseded
from feature_repo.settings import RedisType

if TYPE_CHECKING:
    # At run time it would bring DuckDB into the transformer, which reads the facts alone.
    from feature_repo.publications import Publications

# One hash tag: on a Redis Cluster they lie in one slot, and one transaction may touch them all.
FACTS_KEY = "{fraud}:materialised"
PUBLICATIONS_KEY = "{fraud}:materialised:publications"
RUN_KEY = "{fraud}:materialising"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ViewFacts:
    """How one view stands in the online store.

    Attributes:
        newest_us: when its newest row became usable, microseconds since the epoch.
        finished_us: when a run last finished it, with or without anything to write, microseconds since the epoch.
        filled_us: when every row was last written, microseconds since the epoch.
        rows: how many rows the last run wrote.
        columns: the columns that were written.
    """

    newest_us: int
    finished_us: int
    filled_us: int
    rows: int
    columns: str


# What an online store that is away raises; the cluster client's own is no RedisError.
AWAY = (RedisError, RedisClusterException, OSError)


def ledger_client(url: str, redis_type: RedisType, timeout_s: float) -> Any:
    """A synchronous client of the online store, which returns bytes; a cluster's connects at once.

    Args:
        url: its address.
        redis_type: whether that is one server or a cluster.
        timeout_s: the longest that connecting, and any answer, may take.
    """
    kind = RedisCluster if redis_type == "redis_cluster" else Redis
    return kind.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)


def read_facts(client: Any) -> dict[str, ViewFacts]:
    """The facts of every view, by its name; facts that cannot be read count as lost, and the view is filled again.

    Args:
        client: a synchronous Redis client that returns bytes.
    """
    found = {}
    for name, text in sorted(client.hgetall(FACTS_KEY).items()):
        try:
            found[name.decode()] = ViewFacts(**_record(text))
        except TypeError:
            logger.warning("the facts of %s cannot be read, so it will be filled again", name.decode(errors="replace"))
    return found


class Ledger:
    """The record of one run.

    Only the run that began last may write: one that was thought dead, and is not, must not overwrite newer rows.

    Args:
        client: a synchronous Redis client that returns bytes.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._run = uuid.uuid4().hex

    def publications(self, view: str) -> Publications:
        """The publications of a view that are in the store; none when it was never finished."""
        found = _record(self._client.hget(PUBLICATIONS_KEY, view))
        return {int(at): digest for at, digest in found.items()}

    def begin(self, reach_us: int) -> None:
        """Takes over from whatever run went before.

        Args:
            reach_us: when the newest row that this run may write became usable.

        Raises:
            RunSuperseded: an earlier run reached further; its rows would stay between this run's.
        """
        before = _record(self._client.get(RUN_KEY))
        if before.get("reach_us", reach_us) > reach_us:
            raise RunSuperseded(
                "an earlier run wrote rows that were published after this cutoff, and the online store does not go "
                "back: choose a later cutoff, or empty Redis and rebuild it"
            )
        self._client.set(RUN_KEY, json.dumps({"run": self._run, "reach_us": reach_us}))

    def check(self) -> None:
        """Lets the run that began last go on.

        Raises:
            RunSuperseded: another run began, or Redis lost its data.
        """
        self._require(self._client.get(RUN_KEY))

    def commit(self, view: str, facts: ViewFacts, publications: Publications) -> None:
        """Records that a view is written, unless it no longer may be.

        Raises:
            RunSuperseded: another run began, or Redis lost its data; nothing is recorded.
        """

        def record(transaction: Any) -> None:
            self._require(transaction.get(RUN_KEY))
            transaction.multi()
            transaction.hset(FACTS_KEY, view, json.dumps(asdict(facts)))
            transaction.hset(PUBLICATIONS_KEY, view, json.dumps(publications))

        # Called again, and so refused, when another run begins between the check and the writes.
        self._client.transaction(record, RUN_KEY)

    def keep_only(self, views: Iterable[str]) -> None:
        """Forgets the views that are not among `views`: they are defined no longer."""
        gone = {name.decode() for name in self._client.hkeys(FACTS_KEY)} - set(views)
        for view in sorted(gone):
            self._client.hdel(FACTS_KEY, view)
            self._client.hdel(PUBLICATIONS_KEY, view)

    def _require(self, current: bytes | None) -> None:
        if current is None:
            raise RunSuperseded("Redis lost its data while it was being written: run again, and all of it is filled")
        if _record(current).get("run") != self._run:
            raise RunSuperseded("another run began and goes on from here: let it finish")


def _record(text: bytes | None) -> dict[str, Any]:
    """A stored JSON object; an empty one where there is none, or something else."""
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
