"""A materialisation that is killed, overtaken, or loses its Redis leaves nothing that the next does not finish."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from feature_repo.errors import RunSuperseded, StoreUnavailable
from feature_repo.materialization_ledger import FACTS_KEY, Ledger, ViewFacts, read_facts
from feature_repo.materialize import materialize
from simulators.local_services import RedisServer
from tests.conftest import ROOT
from tests.unit.feature_repo.shop import Shop

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # by Feast itself

KILLED_RUN = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from feature_repo.materialize import materialize
from feature_repo.settings import FeatureSettings
url, folder, until, last = sys.argv[1:]
batches = 0
def count(view, done, total):
    global batches
    batches += done > 0
    if batches == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
settings = FeatureSettings(redis_url=url, registry=Path(folder) / "registry.db", offline=Path(folder) / "offline")
materialize(settings, datetime.fromisoformat(until), count, batch_rows=50)
"""


@pytest.mark.slow
@pytest.mark.parametrize("batches", [1, 7, 16])
def test_a_killed_run_is_finished_by_the_next(shop: Shop, batches: int) -> None:
    shop.run(shop.publish(6))
    until = shop.publish(9)
    folder = shop.settings.offline.parent
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            KILLED_RUN,
            shop.settings.redis_url,
            folder,
            until.isoformat(),
            str(batches),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    assert done.returncode == -9
    half = shop.entities()
    stopped = read_facts(shop.redis)
    assert min(f.newest_us for f in stopped.values()) < until.timestamp() * 1e6
    run = shop.run(until)
    assert shop.entities() == shop.filled_by_feast(until)
    assert half != shop.entities()
    assert sum(r.rows for r in run.values()) > 0


def test_an_earlier_run_stops_when_another_begins(shop: Shop) -> None:
    until = shop.publish(8)

    def begin_another(view: str, done: int, total: int) -> None:
        Ledger(shop.redis).begin(int(until.timestamp() * 1e6))

    with pytest.raises(RunSuperseded, match="another run began"):
        shop.run(until, progress=begin_another, batch_rows=100)
    assert len(shop.entities()) == 100
    assert read_facts(shop.redis) == {}


def test_a_run_that_lost_its_place_records_nothing(shop: Shop) -> None:
    ours, theirs = Ledger(shop.redis), Ledger(shop.redis)
    ours.begin(5)
    theirs.begin(5)
    with pytest.raises(RunSuperseded):
        ours.commit("rider_profile", ViewFacts(5, 6, 6, 1, "columns"), {5: "1:1"})
    assert not shop.redis.exists(FACTS_KEY)


def test_a_redis_that_loses_its_data_meanwhile_is_not_taken_for_filled(shop: Shop) -> None:
    until = shop.publish(8)

    def lose(view: str, done: int, total: int) -> None:
        if view == "driver_profile":
            shop.redis.flushall()

    with pytest.raises(RunSuperseded, match="lost its data"):
        shop.run(until, progress=lose, batch_rows=20)
    assert len(shop.entities()) == 20
    shop.run(until)
    assert shop.entities() == shop.filled_by_feast(until)


def test_a_redis_that_goes_away_is_named_and_the_next_run_finishes(shop: Shop, tmp_path: Path) -> None:
    until = shop.publish(8)
    with RedisServer(tmp_path / "redis") as server:
        settings = shop.settings.model_copy(update={"redis_url": server.url})

        def stop(view: str, done: int, total: int) -> None:
            if view == "driver_profile":
                server.stop()

        with pytest.raises(StoreUnavailable, match=r"while driver_profile was being written.*not recorded as done"):
            materialize(settings, until, stop, batch_rows=20)


def test_a_run_does_not_go_back(shop: Shop) -> None:
    shop.run(shop.publish(8))
    with pytest.raises(RunSuperseded, match="choose a later cutoff"):
        shop.run(shop.publish(7))
    assert shop.entities() == shop.filled_by_feast(shop.publish(8))
