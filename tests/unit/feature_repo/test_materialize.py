"""Materialisation on a real Feast and a real Redis: incremental, and equal to filling an empty store."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from feature_repo.errors import CorruptValue, MissingData
from feature_repo.feast_format import decode_value, hash_field, redis_key
from feature_repo.labels import LABEL_COLUMNS
from feature_repo.materialization_ledger import FACTS_KEY, ViewFacts, read_facts
from feature_repo.materialization_plan import REFILL_AFTER_S, decide
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.settings import EMBEDDING_DIM, KEY_TTL_SECONDS
from tests.redis_servers import redis_cluster
from tests.unit.feature_repo.shop import Shop

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # by Feast itself


def test_days_one_after_the_other_give_what_feast_gives_at_once(shop: Shop) -> None:
    first = shop.run(shop.publish(6))
    assert first["rider_profile"].why == "all, since it was never finished"
    later = [shop.run(shop.publish(day)) for day in (7, 8, 9)]
    seen = shop.entities()
    until = shop.days[9] + timedelta(days=1)
    assert seen == shop.filled_by_feast(until)
    assert len(seen) > 500
    riders = pc.count_distinct(shop.events.column("rider_id")).as_py()
    for run in later:
        assert 0 < run["rider_profile"].rows < riders
        assert run["rider_profile"].why.startswith("published from")
    assert later[-1]["rider_profile"].newest == until


def test_a_run_with_nothing_new_writes_nothing_and_says_so(shop: Shop) -> None:
    until = shop.publish(8)
    shop.run(until, clock=lambda: 1000.0)
    again = shop.run(until, clock=lambda: 2000.0)
    assert {(run.rows, run.why) for run in again.values()} == {(0, "nothing is new")}
    facts = read_facts(shop.redis)
    assert {f.finished_us for f in facts.values()} == {2_000_000_000}
    assert {f.filled_us for f in facts.values()} == {1_000_000_000}


def test_a_row_published_at_the_cutoff_is_in_and_a_later_one_is_not(shop: Shop) -> None:
    until = shop.publish(8)
    shop.run(until - timedelta(microseconds=1))
    assert shop.entities() == shop.filled_by_feast(until - timedelta(days=1))
    shop.redis.flushall()
    shop.run(until)
    assert shop.entities() == shop.filled_by_feast(until)


def test_events_that_reach_the_log_late_correct_what_was_published(shop: Shop) -> None:
    trips = shop.events.filter(pc.equal(shop.events.column("event_type"), "trip_completed"))
    days = pc.strftime(trips.column("ingested_at"), "%Y-%m-%d")
    late = trips.filter(pc.equal(days, str(shop.days[4].date()))).column("event_id").slice(0, 40)
    shop.run(shop.publish(8, without=late.combine_chunks()))
    before = shop.entities()
    run = shop.run(shop.publish(8))
    assert run["rider_profile"].why == f"changed from {shop.days[5]:%Y-%m-%d} 00:00 on"
    after = shop.entities()
    assert after != before
    assert after == shop.filled_by_feast(shop.days[9])


def test_a_label_reaches_the_store_though_its_entities_were_idle_and_is_undone_there(shop: Shop) -> None:
    """As the other days: the one file is written on, from the midnight after the label was observed."""
    first = shop.events.slice(0, 1)
    rider, event = first["rider_id"][0].as_py(), first["event_id"][0].as_py()

    def stored() -> Any:
        return decode_value(shop.redis.hget(redis_key("fraud", {"rider_id": rider}), FRAUDS))

    shop.events = pc.filter(shop.events, pc.or_(pc.equal(shop.events["event_id"], event), _others(shop.events, rider)))
    shop.run(shop.publish(6))
    assert stored() == 0
    shop.labels = labels(event, ("reviewer", True, shop.days[7]))
    run = shop.run(shop.publish(7))["rider_profile"]
    assert run.why.startswith("published from")
    assert stored() == 1
    shop.labels = labels(event, ("reviewer", True, shop.days[7]), ("audit", False, shop.days[8]))
    until = shop.publish(8)
    shop.run(until)
    assert stored() == 0
    seen = shop.entities()
    assert seen == shop.filled_by_feast(until)


FRAUDS = hash_field("rider_profile", "rider_confirmed_frauds")


def _others(events: pa.Table, rider: str) -> pa.ChunkedArray:
    return pc.not_equal(events["rider_id"], rider)


def labels(event: str, *said: tuple[str, bool, datetime]) -> pa.Table:
    """What some sources said of an event, and when."""
    rows = [{"event_id": event, "source": s, "is_fraud": v, "observed_at": at} for s, v, at in said]
    return pa.Table.from_pylist(rows, LABEL_COLUMNS)


def test_an_emptied_redis_is_filled_again(shop: Shop) -> None:
    until = shop.publish(8)
    shop.run(until)
    whole = shop.entities()
    shop.redis.flushall()
    shop.run(until)
    assert shop.entities() == whole


def test_rows_lost_beside_the_ledger_are_noticed(shop: Shop) -> None:
    """As when one shard of a cluster comes back empty."""
    until = shop.publish(8)
    shop.run(until)
    whole = shop.entities()
    for key in sorted(whole)[::5]:
        shop.redis.delete(key)
    run = shop.run(until)
    assert run["rider_profile"].why == "all, since the store lost rows"
    assert shop.entities() == whole


def test_a_shard_that_comes_back_empty_is_filled_again(small_log: Path, tmp_path: Path) -> None:
    """The ledger lies on another shard, and says that all is well."""
    with redis_cluster(tmp_path / "cluster") as nodes:
        shop = Shop(small_log, f"redis://127.0.0.1:{nodes[0].port}", tmp_path, "redis_cluster")
        until = shop.publish(8)
        shop.run(until)
        whole = shop.entities()
        assert sum(node.client.dbsize() > 100 for node in nodes) == 3
        next(node for node in nodes if not node.client.keys(f"{FACTS_KEY}*")).client.flushall()
        assert shop.run(until)["rider_profile"].why == "all, since the store lost rows"
        assert shop.entities() == whole


def test_only_the_views_of_a_new_embedding_version_are_filled(shop: Shop) -> None:
    until = shop.publish(8)
    shop.publish_embeddings("aaaaaaaaaaaa", until)
    shop.run(until)
    shop.publish_embeddings("bbbbbbbbbbbb", until)
    run = shop.run(until)
    assert {view for view, r in run.items() if r.rows} == {f"{kind}_embedding_bbbbbbbbbbbb" for kind in ENTITY_KINDS}
    assert shop.entities() == shop.filled_by_feast(until)


def test_new_embeddings_of_a_version_replace_the_old(shop: Shop) -> None:
    until = shop.publish(8)
    shop.publish_embeddings("aaaaaaaaaaaa", until - timedelta(days=1))
    shop.run(until)
    shop.publish_embeddings("aaaaaaaaaaaa", until)
    run = shop.run(until)
    assert run["rider_embedding_aaaaaaaaaaaa"].newest == until
    assert shop.entities() == shop.filled_by_feast(until)


def test_an_entity_that_left_the_network_s_window_has_no_embedding_any_more(shop: Shop) -> None:
    until, rider = shop.publish(8), shop.events.column("rider_id")[0].as_py()
    view, found = "rider_embedding_aaaaaaaaaaaa", []
    for day, left in ((1, ""), (0, rider)):
        shop.publish_embeddings("aaaaaaaaaaaa", until - timedelta(days=day), left)
        shop.run(until)
        stored = shop.redis.hget(redis_key("fraud", {"rider_id": rider}), hash_field(view, "embedding"))
        found.append(decode_value(stored))
    assert len(found[0]) == EMBEDDING_DIM
    assert found[1] is None
    assert shop.entities() == shop.filled_by_feast(until)


def test_a_version_that_is_gone_is_forgotten(shop: Shop) -> None:
    until = shop.publish(8)
    shop.publish_embeddings("aaaaaaaaaaaa", until)
    shop.run(until)
    for file in (shop.settings.offline / "embeddings" / "aaaaaaaaaaaa").iterdir():
        file.unlink()
    (shop.settings.offline / "embeddings" / "aaaaaaaaaaaa").rmdir()
    shop.run(until)
    assert not [view for view in read_facts(shop.redis) if "embedding" in view]


def test_idle_entities_are_written_again_before_they_expire(shop: Shop) -> None:
    until = shop.publish(8)
    shop.run(until, clock=lambda: 0.0)
    key = next(iter(shop.entities()))
    shop.redis.expire(key, 100)
    shop.run(until, clock=lambda: REFILL_AFTER_S - 1.0)
    assert shop.redis.ttl(key) <= 100
    run = shop.run(until, clock=lambda: float(REFILL_AFTER_S))
    assert run["rider_profile"].why == "all, since idle entities expire after 35 days"
    assert shop.redis.ttl(key) > KEY_TTL_SECONDS - 100


def test_progress_is_told_by_view_and_rows(shop: Shop) -> None:
    told: list[tuple[str, int, int]] = []
    until = shop.publish(8)
    runs = shop.run(until, progress=lambda *step: told.append(step), batch_rows=100)
    riders = [(done, total) for view, done, total in told if view == "rider_profile"]
    rows = runs["rider_profile"].rows
    assert riders == [(min(n, rows), rows) for n in range(0, rows + 100, 100)]
    assert {view for view, _, _ in told} == {view for view, run in runs.items() if run.rows}


def test_a_file_that_is_cut_short_or_missing_is_named_before_anything_is_written(shop: Shop) -> None:
    until = shop.publish(8)
    broken = shop.settings.offline / "device_profile.parquet"
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(CorruptValue, match=r"device_profile\.parquet cannot be read"):
        shop.run(until)
    broken.unlink()
    with pytest.raises(MissingData, match=r"no file .*device_profile\.parquet"):
        shop.run(until)
    assert shop.redis.dbsize() == 0


def test_a_cutoff_before_the_first_publication_writes_nothing(shop: Shop) -> None:
    shop.publish(8)
    run = shop.run(shop.days[0])
    assert {(r.rows, r.why, r.newest) for r in run.values()} == {(0, "nothing is published", None)}
    assert read_facts(shop.redis) == {}


FACTS = ViewFacts(newest_us=2, finished_us=3, filled_us=3, rows=1, columns="a")


def test_a_view_whose_columns_changed_is_filled() -> None:
    assert not decide(FACTS, {1: "x", 2: "y"}, {1: "x", 2: "y"}, columns="a", now_us=3, intact=lambda: True).full
    assert decide(FACTS, {1: "x", 2: "y"}, {1: "x", 2: "y"}, columns="a,b", now_us=3, intact=lambda: True).full


def test_writing_starts_at_the_first_publication_that_differs() -> None:
    known = {1: "x", 2: "y"}
    assert decide(FACTS, known, {1: "x", 2: "y", 3: "z"}, columns="a", now_us=3, intact=lambda: True).start_us == 3
    assert decide(FACTS, known, {1: "x", 2: "other", 3: "z"}, columns="a", now_us=3, intact=lambda: True).start_us == 2
    assert decide(FACTS, known, {2: "y"}, columns="a", now_us=3, intact=lambda: True).start_us is None
