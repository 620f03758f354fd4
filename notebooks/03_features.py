# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Features
#
# The same features four times: by hand, from Feast's point-in-time join, over the days of a ring, and online from a
# real Redis. It simulates its own small city, in which collusion is frequent, and opens the truth about it: no model
# may, but this is a researcher's look at a simulated system. `docs/features.md` says what each feature means.

# %%
import asyncio
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import redis
import redis.asyncio as aioredis
from feast import FeatureStore
from matplotlib.dates import DateFormatter, DayLocator

from feature_repo.batch_features import write_batch_features
from feature_repo.definitions import definitions
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import append, read_log
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import PROFILE_FEATURES
from feature_repo.historical import assemble
from feature_repo.ingestion import ingest_files
from feature_repo.labels import read_labels
from feature_repo.materialize import materialize
from feature_repo.online_reader import OnlineReader
from feature_repo.pseudonyms import ENTITY_KINDS, Pseudonymiser
from feature_repo.request_features import REQUEST_FEATURES, request_features
from feature_repo.services import TRAINING_SERVICE
from feature_repo.settings import FEAST_PROJECT, FeatureSettings
from feature_repo.streaming.publisher import Publisher
from feature_repo.streaming.rebuild import rebuild
from feature_repo.streaming.worker import Worker
from feature_repo.tiles import ACTIVITY_FEATURES, WINDOWS
from simulators.abuse_scenarios import scenario_settings
from simulators.local_services import RedisServer
from simulators.ride_hailing import days, read_events, read_truth, simulate

warnings.filterwarnings("ignore", category=DeprecationWarning)  # Feast's own, of the libraries below it
HONEST, FRAUD, INK = "#7a8a99", "#c0392b", "#1f618d"
KEY = Pseudonymiser(b"nobody in this city is real")
scratch = tempfile.TemporaryDirectory()
home = Path(scratch.name)
world = home / "world"
simulate(scenario_settings("collusion", days=21, events_per_day=800), world)
ingest_files(world / "events", home / "event_log", KEY)
table = read_log(home / "event_log")
log = table.to_pandas().set_index("event_id", drop=False)
log["second"] = log["event_timestamp"].astype("int64") // 1_000_000
NAMES = ["event_type", "city", *(f"{kind}_id" for kind in ENTITY_KINDS)]
log[NAMES] = log[NAMES].astype("category")  # compared quickly, and often
print(f"{len(log):,} events of {log['rider_id'].nunique()} riders and {log['driver_id'].nunique()} drivers")

# %% [markdown]
# ## A point-in-time join by hand
#
# Two rules make a feature. An event sees what had **arrived** before it: rows with a smaller `stream_seq`. A window is
# made of whole **tiles**: the one in which the event lies, and those before it. Profiles and city norms are those of
# the last midnight.

# %%
SPANS = {window.name: (window.tile_s, window.tiles) for window in WINDOWS}
DAY = pd.Timedelta(days=1)


def in_tiles(rows, second, window):
    """The rows that lie in the tiles of the window as of a second."""
    tile_s, tiles = SPANS[window]
    behind = second // tile_s - rows["second"] // tile_s
    return rows[(behind >= 0) & (behind < tiles)]


def features_of(event, past, window):
    """Seven features of an event, by the rows of the past and a function that cuts a window out of some."""
    now, midnight = event["second"], event["ingested_at"].floor("D")
    rider, driver = past[past["rider_id"] == event["rider_id"]], past[past["driver_id"] == event["driver_id"]]
    requests, trips = rider[rider["event_type"] == "trip_requested"], rider[rider["event_type"] == "trip_completed"]
    together = trips[trips["driver_id"] == event["driver_id"]]
    rides = past[(past["event_type"] == "trip_completed") & (past["city"] == event["city"])]
    rides = rides[(rides["ingested_at"] >= midnight - DAY) & (rides["ingested_at"] < midnight)]
    last = window(rider, now, "30d")["event_timestamp"].max()
    return {
        "rider_requests_1h": len(window(requests, now, "1h")),
        "rider_trips_24h": len(window(trips, now, "24h")),
        "driver_riders_7d": window(driver, now, "7d")["rider_id"].nunique(),
        "pair_fare_sum_30d": window(together, now, "30d")["amount"].sum(),
        "rider_age_s": 30 * 86_400 if pd.isna(last) else max(0, (event["event_timestamp"] - last).total_seconds()),
        "rider_lifetime_trips": (trips["ingested_at"] < midnight).sum(),
        "city_fare_per_km": (rides["amount"] * 1000 / rides["distance_m"]).median(),
    }


def by_hand(event):
    return features_of(event, log[log["stream_seq"] < event["stream_seq"]], in_tiles)


# %% [markdown]
# What is easily done instead: sort by the time at which things happened, and cut windows to the second. It looks right,
# and gives the model what nobody could know yet.


# %%
def in_seconds(rows, second, window):
    tile_s, tiles = SPANS[window]
    behind = second - rows["second"]
    return rows[(behind >= 0) & (behind < tile_s * tiles)]


def naively(event):
    return features_of(event, log[log["event_timestamp"] < event["event_timestamp"]], in_seconds)


# %% [markdown]
# Feast joins the same features for all scored events, from files that DuckDB computes. A row may be used from its
# timestamp on, so each event asks with its own arrival.

# %%
settings = FeatureSettings(registry=home / "registry.db", offline=home / "offline")
write_batch_features(table, read_labels(world / "labels"), settings.offline)
store = FeatureStore(config=settings.repo_config())
store.apply(definitions(settings.offline))
scored = log[log["event_type"].isin(SCORED_EVENT_TYPES)]
asked = scored[["event_id", "city", *(f"{kind}_id" for kind in ENTITY_KINDS)]].astype(object).fillna("")
asked["event_timestamp"] = scored["ingested_at"]
joined = store.get_historical_features(asked, store.get_feature_service(TRAINING_SERVICE)).to_df()
joined = joined.set_index("event_id", drop=False).loc[scored["event_id"]]
print(f"{len(joined):,} scored events, {joined.shape[1] - asked.shape[1]} columns from {TRAINING_SERVICE}")

# %% [markdown]
# Side by side for the event that the late ones cost most: events of the same people that had happened before it, and
# arrived after it.

# %%
lag = (log["ingested_at"] - log["event_timestamp"]).dt.total_seconds()
late = log[lag > 60]
recent = scored[scored["ingested_at"] >= scored["ingested_at"].max() - 14 * DAY]
missed = pd.Series(0, index=recent.index)
for _, event in late.iterrows():
    same = (recent["rider_id"] == event["rider_id"]) | (recent["driver_id"] == event["driver_id"])
    missed += (
        same & (recent["event_timestamp"] > event["event_timestamp"]) & (recent["stream_seq"] < event["stream_seq"])
    )
chosen = recent.loc[missed.idxmax()]
sample = pd.concat([recent.sample(100, random_state=7), recent.loc[[chosen.name]]])
hand = pd.DataFrame([by_hand(event) for _, event in sample.iterrows()], index=sample.index)
feast = joined.loc[sample.index, hand.columns].fillna(0).astype(float)
print(f"{hand.size:,} values: largest difference by hand against Feast {np.abs(hand - feast).to_numpy().max():.1e}")
print(f"below: {chosen['event_type']} of {chosen['event_timestamp']:%d %B %H:%M}, late events missed: {missed.max()}")
shown = {"by hand": hand.loc[chosen.name], "Feast": feast.loc[chosen.name], "naive": pd.Series(naively(chosen))}
pd.DataFrame(shown).round(3)

# %% [markdown]
# ## A ring, day by day
#
# The pair that met most often in fraud, against the most regular honest pair. Lines are counted by hand at every hour,
# dots are Feast's values at the pair's own events. A window empties by itself when nothing happens.

# %%
truth = read_truth(world).to_pandas().set_index("event_id")
trips = log[log["event_type"] == "trip_completed"].join(truth[["is_fraud", "ring_id"]])
meetings = trips.groupby(["rider_id", "driver_id"], observed=True)["is_fraud"].agg(["size", "sum"])
ring_pair = meetings["sum"].idxmax()
honest_pair = meetings.loc[meetings["sum"] == 0, "size"].idxmax()
hours = pd.date_range(log["event_timestamp"].min().ceil("h"), log["event_timestamp"].max(), freq="h")
instants = hours.as_unit("s").asi8[:, None]


def over_time(rows, window):
    """How many of the rows the window held at every hour."""
    tile_s, tiles = SPANS[window]
    behind = instants // tile_s - rows["second"].to_numpy() // tile_s
    arrived = rows["ingested_at"].to_numpy() <= hours.to_numpy()[:, None]
    return ((behind >= 0) & (behind < tiles) & arrived).sum(axis=1)


figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.4), layout="constrained", sharex=True)
for (rider, driver), colour, who in ((ring_pair, FRAUD, "ring"), (honest_pair, HONEST, "regulars")):
    of_driver = trips[trips["driver_id"] == driver]
    of_pair = of_driver[of_driver["rider_id"] == rider]
    together, all_of_driver = over_time(of_pair, "7d"), over_time(of_driver, "7d")
    left.step(hours, together, where="post", color=colour, label=f"{who}: by hand")
    mine = joined[(joined["rider_id"] == rider) & (joined["driver_id"] == driver)]
    left.scatter(mine["event_timestamp"], mine["pair_trips_7d"], s=16, color=colour, label=f"{who}: Feast")
    share = np.divide(together, all_of_driver, out=np.full(len(hours), np.nan), where=all_of_driver >= 5)
    right.step(hours, share, where="post", color=colour, label=who)
left.set(title="pair_trips_7d", ylabel="trips together in 7 days")
right.set(title="pair_trips_7d / driver_trips_7d", ylabel="share of the driver's trips", ylim=(0, None))
for axis in (left, right):
    axis.legend(frameon=False, loc="upper left")
    axis.xaxis.set_major_locator(DayLocator(interval=3))
    axis.xaxis.set_major_formatter(DateFormatter("%-d %b"))
plt.show()

# %% [markdown]
# ## Freshness
#
# Left: how long events take to arrive. Nearly all take less than a second; the late ones are what the order by arrival
# is for. Right: how old the newest thing is that a decision knows about its people, and how old the batch features are;
# the jump at 30 days is people without a past.

# %%
ages = {f"{kind.replace('_', ' ')}'s latest event": joined[f"{kind}_age_s"] for kind in ENTITY_KINDS}
ages["pair's latest event"] = joined["pair_age_s"]
ages["profiles' publication"] = (joined["event_timestamp"] - joined["event_timestamp"].dt.floor("D")).dt.total_seconds()
figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.4), layout="constrained")
ordered = np.sort(lag)
left.step(ordered, 1 - np.arange(len(ordered)) / len(ordered), where="post", color=INK)
for seconds, name in ((1, "1 second"), (60, "1 minute"), (3600, "1 hour")):
    left.axvline(seconds, color=HONEST, lw=0.8, linestyle=":")
    left.text(seconds * 1.15, 0.93, name, color=HONEST, transform=left.get_xaxis_transform())
left.set(title="From event to arrival", xscale="log", yscale="log", xlabel="seconds", ylabel="share that takes longer")
styles = ("-", "-", ":", "-", "-", "--")  # a rider's device is as fresh as the rider
for colour, style, (name, values) in zip(plt.get_cmap("tab10").colors, styles, ages.items(), strict=False):
    hours_old = np.sort(values.dropna().clip(1, None)) / 3600
    right.plot(hours_old, np.arange(1, len(hours_old) + 1) / len(hours_old), style, color=colour, label=name)
right.set(title="Age of what a decision knows", xscale="log", xlabel="hours", ylabel="share of scored events")
right.legend(frameon=False, loc="upper left")
plt.show()
print(f"median lag {lag.median():.2f} s; {len(late)} of {len(log):,} events came more than a minute late")
print(f"{(missed > 0).sum()} of {len(recent):,} scored events were decided before such an event of the same people")

# %% [markdown]
# ## Parity
#
# The last 300 events once more, live. Redis begins with the tiles of everything before them and the profiles of the
# last midnight. Then each event is read as the transformer reads it, and only then published, and folded in by the
# worker. What was read is compared with what training would be given.

# %%
LIVE = 300
NUMBERS = [*REQUEST_FEATURES, *ACTIVITY_FEATURES, *PROFILE_FEATURES]
live = table.slice(len(table) - LIVE)
midnight = live["ingested_at"][0].as_py().replace(hour=0, minute=0, second=0, microsecond=0)
append(home / "before", table.slice(0, len(table) - LIVE))
raw = EventBatch.from_arrow(pa.concat_tables([read_events(world, day) for day in days(world)[-2:]]))
position = {name: row for row, name in enumerate(raw["event_id"])}


async def replay(url):
    client, reader = aioredis.Redis.from_url(url), OnlineReader(url, FEAST_PROJECT, timeout_s=5)
    publisher, worker = Publisher(client, KEY), Worker(client, None)
    arrived = live["ingested_at"].cast(pa.int64()).to_numpy()
    rows = {}
    for n in range(LIVE):
        event = EventBatch.from_arrow(live.slice(n, 1))
        name = event["event_id"][0]
        if event["event_type"][0] in SCORED_EVENT_TYPES:
            read = await reader.read(event)
            values = request_features(event, read.norms) | read.features
            rows[name] = {feature: values[feature][0] for feature in NUMBERS}
        await publisher.publish(raw.take(np.array([position[name]])), arrived[n : n + 1])
        await worker.drain()
    await reader.close()
    await client.aclose()
    return pd.DataFrame.from_dict(rows, orient="index")


with RedisServer(home / "redis") as server, ThreadPoolExecutor(1) as thread:
    with redis.Redis.from_url(server.url) as client:
        rebuild(home / "before", client, FEAST_PROJECT)
    materialize(settings.model_copy(update={"redis_url": server.url}), midnight)
    online = thread.submit(asyncio.run, replay(server.url)).result()  # a notebook has an event loop already

given = live.filter(pc.is_in(live["event_type"], value_set=pa.array(SCORED_EVENT_TYPES)))
offline = assemble(given, joined.loc[online.index].reset_index(drop=True)).set_index("event_id")[NUMBERS]
difference = np.abs(online - offline).where(online.notna() | offline.notna(), 0.0).fillna(np.inf).to_numpy()
verdict = "equal to 1e-9" if difference.max() <= 1e-9 else "not equal"
print(f"{len(online)} scored events x {len(NUMBERS)} features: {verdict}, largest difference {difference.max():.1e}")

# %%
naive = pd.DataFrame([naively(log.loc[name]) for name in online.index], index=online.index)
naive = naive[[name for name in naive if name in NUMBERS]]
figure, axes = plt.subplots(1, 2, figsize=(12, 5.6), layout="constrained")
groups = {"of the event": REQUEST_FEATURES, "tiles": ACTIVITY_FEATURES, "profiles": PROFILE_FEATURES}
for colour, (name, features) in zip((HONEST, INK, "#b9770e"), groups.items(), strict=True):
    axes[0].scatter(offline[[*features]], online[[*features]], s=12, alpha=0.8, lw=0, color=colour, label=name)
wrong = np.abs(online[naive.columns] - naive).to_numpy() > 1e-9
for colour, mask, name in ((HONEST, ~wrong, "equal"), (FRAUD, wrong, "different")):
    label = f"{name} ({mask.sum():,})"
    axes[1].scatter(naive.to_numpy()[mask], online[naive.columns].to_numpy()[mask], s=14, color=colour, label=label)
for axis, title in zip(axes, ("Online against training", "Online against the naive join"), strict=True):
    axis.axline((0, 0), slope=1, color="black", lw=0.6, zorder=0)
    axis.set(xscale="symlog", yscale="symlog", title=title, ylabel="online")
    axis.legend(frameon=False, loc="upper left")
axes[0].set_xlabel(f"offline; largest difference of {difference.size:,} values: {difference.max():.1e}")
axes[1].set_xlabel("by event time, windows to the second")
plt.show()

# %% [markdown]
# Where the naive join is off, by feature: what a model would have learnt from numbers that serving never sends.

# %%
table_of_errors = pd.DataFrame({"share wrong": wrong.mean(axis=0), "largest error": 0.0}, index=naive.columns)
table_of_errors["largest error"] = np.abs(online[naive.columns] - naive).max()
scratch.cleanup()
table_of_errors.round(3)
