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
# # The city
#
# A tour of the simulated world: a day's map, the rings drawn as graphs, what each kind of fraud does, and how labels
# arrive. It opens the truth, which no model may. It needs a world: `make demo` or `fraud simulate`.
# `FRAUD_HOME` names another folder than `.local/demo`.

# %%
import os
from datetime import timedelta
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import rankdata

from simulators.ride_hailing import TYPOLOGIES, days, read_events, read_labels, read_truth, read_world

root = next(p for p in [Path.cwd(), *Path.cwd().parents] if (p / "manifests").is_dir())
world = Path(os.environ.get("FRAUD_HOME", root / ".local" / "demo")) / "world"
if not (world / "world.json").is_file():
    raise SystemExit(f"no world in {world}: run `fraud simulate` first")

HONEST, FRAUD, INK = "#7a8a99", "#c0392b", "#1f618d"
summary = read_world(world)
calendar = days(world)
events = pd.concat([read_events(world, day).to_pandas() for day in calendar], ignore_index=True)
events = events.merge(read_truth(world).to_pandas(), on="event_id", validate="1:1")
events["local"] = events["event_timestamp"] + pd.Timedelta(hours=3.5)
present = [name for name in TYPOLOGIES if (events["typology"] == name).any()]
print(
    f"{len(events):,} events in {len(calendar)} days, {events['is_fraud'].sum():,} fraud events of {len(present)} kinds"
)

# %% [markdown]
# ## A day's map
#
# The pickups of the busiest day, in kilometres from the middle of each city and coloured by the hour. Fraud is circled:
# it sits where everybody is.

# %%
requests = events[events["event_type"] == "trip_requested"]
busiest = requests["local"].dt.date.value_counts().idxmax()
today = requests[requests["local"].dt.date == busiest]
cities = list(summary.settings.cities)
KM_PER_DEGREE = 111.195
figure, axes = plt.subplots(1, len(cities), figsize=(4.7 * len(cities) + 1, 4.9), layout="constrained", squeeze=False)
for axis, city in zip(axes[0], cities, strict=True):
    part = today[today["city"] == city]
    middle_lat, middle_lon = requests.loc[requests["city"] == city, ["pickup_lat", "pickup_lon"]].median()
    north = (part["pickup_lat"] - middle_lat) * KM_PER_DEGREE
    east = (part["pickup_lon"] - middle_lon) * KM_PER_DEGREE * np.cos(np.radians(middle_lat))
    hour = part["local"].dt.hour + part["local"].dt.minute / 60
    dots = axis.scatter(east, north, c=hour, cmap="twilight_shifted", vmin=0, vmax=24, s=10, alpha=0.8, lw=0)
    bad = part["is_fraud"]
    axis.scatter(east[bad], north[bad], s=80, facecolors="none", edgecolors=FRAUD, linewidths=1.5)
    axis.set(xlim=(-20, 20), ylim=(-20, 20), aspect="equal", xlabel="km east")
    axis.set_title(f"{city.title()}: {len(part):,} requests, {bad.sum()} fraud")
axes[0][0].set_ylabel("km north")
figure.colorbar(dots, ax=axes[0], label=f"local hour, {busiest:%A %d %B %Y}", shrink=0.8, ticks=range(0, 25, 6))
plt.show()

# %% [markdown]
# ## The rhythm of the week
#
# Requests by local hour and weekday: two rush hours on working days, late evenings before the day of rest, and a
# Friday without commuters.

# %%
weekday = (requests["local"].dt.dayofweek - 5) % 7  # the Iranian week begins on Saturday
grid = pd.crosstab(weekday, requests["local"].dt.hour).reindex(index=range(7), columns=range(24), fill_value=0)
lasted = pd.Series((pd.DatetimeIndex(calendar).dayofweek - 5) % 7).value_counts().reindex(range(7), fill_value=1)
figure, axis = plt.subplots(figsize=(11, 3.2), layout="constrained")
picture = axis.imshow(grid.div(lasted, axis=0), aspect="auto", cmap="YlGnBu")
axis.set(xlabel="local hour", title="Requests an hour", xticks=range(0, 24, 2))
axis.set_yticks(range(7), ["Sat", "Sun", "Mon", "Tue", "Wed", "Thu", "Fri"])
figure.colorbar(picture, ax=axis)
plt.show()

# %% [markdown]
# ## Rings
#
# The busiest ring of each kind that has three people or more in its fraud. Inner circle: drivers; middle: riders;
# outer: phones. Red edges met in fraud, grey ones only in honest life. Not everybody drawn is guilty: the drivers of a
# device farm's rides, and the riders of a spoofing driver, know nothing.

# %%
LEVELS = (("driver_id", "o", INK, 0.35), ("rider_id", "s", "#6c3483", 0.75), ("device_id", "^", "#b9770e", 1.15))


def largest_rings(most):
    """The ring with most fraud events of each typology, those with several people first."""
    caught = events[events["ring_id"].notna()]
    sizes = caught.groupby(["typology", "ring_id"]).agg(
        events=("event_id", "size"), riders=("rider_id", "nunique"), drivers=("driver_id", "nunique")
    )
    sizes["people"] = sizes["riders"] + sizes["drivers"]
    sizes = sizes[(sizes["people"] >= 3) & (sizes["people"] <= 60)].sort_values("events", ascending=False)
    best = sizes.reset_index().drop_duplicates("typology")
    return list(best[["typology", "ring_id"]].itertuples(index=False, name=None))[:most]


def circle(members, radius, pull):
    """Places on a circle in the order of where their friends already stand, so that edges are short."""
    members = sorted(members, key=lambda m: (pull[m], m))
    angle = np.linspace(0, 2 * np.pi, len(members), endpoint=False)
    return {m: (radius * np.cos(a), radius * np.sin(a)) for m, a in zip(members, angle, strict=True)}


def draw_ring(axis, typology, ring):
    """Members on three circles, with an edge for each pair that met."""
    caught = events[events["ring_id"] == ring]
    members = {column: set(caught[column].dropna()) for column, *_ in LEVELS}
    # Riders who share a phone stand together; drivers and phones stand near the riders they met.
    usual = caught.groupby("rider_id")["device_id"].agg(lambda ids: ids.value_counts().index[0])
    riders = circle(members["rider_id"], LEVELS[1][3], dict(usual))
    spot = dict(riders)
    for column, _, _, radius in (LEVELS[0], LEVELS[2]):
        pairs = caught.dropna(subset=[column])
        places = pd.DataFrame([riders[rider] for rider in pairs["rider_id"]], columns=["x", "y"])
        met = places.groupby(pairs[column].to_numpy()).mean()
        pull = dict(np.arctan2(met["y"], met["x"]) % (2 * np.pi))
        spot |= circle(members[column], radius, pull)
    for column, marker, colour, _ in LEVELS:
        places = np.array([spot[m] for m in members[column]]).reshape(-1, 2)
        axis.scatter(*places.T, marker=marker, color=colour, s=46, zorder=3)
    for column in ("driver_id", "device_id"):
        pairs = events[events["rider_id"].isin(members["rider_id"]) & events[column].isin(members[column])]
        for (rider, end), fraud in pairs.groupby(["rider_id", column])["is_fraud"]:
            width = 0.6 + 0.6 * np.log1p(len(fraud))
            line = np.array([spot[rider], spot[end]]).T
            axis.plot(*line, color=FRAUD if fraud.any() else HONEST, lw=width, alpha=0.5, zorder=1)
    axis.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal")
    axis.set_title(f"{typology.replace('_', ' ')}: {len(caught)} fraud events")
    axis.axis("off")


rings = largest_rings(6)
columns = max(1, min(3, len(rings)))
rows = max(1, -(-len(rings) // columns))
figure, axes = plt.subplots(rows, columns, figsize=(4.4 * columns, 4.6 * rows), layout="constrained", squeeze=False)
for axis in axes.flat[len(rings) :]:
    axis.axis("off")
for axis, (typology, ring) in zip(axes.flat, rings, strict=False):
    draw_ring(axis, typology, ring)
names = [("drivers", *LEVELS[0][1:3]), ("riders", *LEVELS[1][1:3]), ("phones", *LEVELS[2][1:3])]
handles = [plt.Line2D([], [], marker=m, color=c, linestyle="", label=n) for n, m, c in names]
figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
plt.show()

# %% [markdown]
# ## What each kind of fraud does
#
# Left: in which events it shows. Right: how far one field alone tells it from honest events of the same type, as an
# area under the curve; 0.5 is nothing, above it the fraud's values are higher, below it lower. Pale means hard.

# %%
FIELDS = ("amount", "distance_m", "duration_s", "surge", "gps_accuracy_m", "gps_max_jump_m", "attempt", "promo_applied")
LEAST = 5


def area(values, fraud):
    """Area under the ROC curve, ties counted half."""
    n, m = fraud.sum(), (~fraud).sum()
    return (rankdata(values)[fraud].sum() - n * (n + 1) / 2) / (n * m)


def areas_of(typology):
    """The area of each field, averaged over event types by their fraud; NaN where there is too little."""
    found = []
    for name in FIELDS:
        known = events[events[name].notna() & (~events["is_fraud"] | (events["typology"] == typology))]
        parts = [p for _, p in known.groupby("event_type") if p["is_fraud"].sum() >= LEAST and not p["is_fraud"].all()]
        weight = [p["is_fraud"].sum() for p in parts]
        values = [area(p[name].to_numpy(float), p["is_fraud"].to_numpy()) for p in parts]
        found.append(np.average(values, weights=weight) if parts else np.nan)
    return found


mix = pd.crosstab(events["typology"], events["event_type"], normalize="index").reindex(present)
heat = np.array([areas_of(name) for name in present])
figure, (left, right) = plt.subplots(1, 2, figsize=(14, 1.6 + 0.45 * len(present)), layout="constrained")
start = np.zeros(len(present))
for colour, event_type in zip(plt.get_cmap("tab10").colors, mix.columns, strict=False):
    left.barh(range(len(present)), mix[event_type], left=start, color=colour, label=event_type.replace("_", " "))
    start += mix[event_type].to_numpy()
count = events["typology"].value_counts()
left.set_yticks(range(len(present)), [f"{name.replace('_', ' ')} ({count[name]})" for name in present])
left.set(xlabel="share of its events", xlim=(0, 1))
left.invert_yaxis()
left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False, fontsize=8)
picture = right.imshow(heat, cmap="RdBu_r", vmin=0, vmax=1, aspect="auto")
for (row, column), value in np.ndenumerate(heat):
    if np.isfinite(value):
        right.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8)
right.set_xticks(range(len(FIELDS)), FIELDS, rotation=35, ha="right")
right.set_yticks([])
figure.colorbar(picture, ax=right, label="area under the curve")
plt.show()

# %% [markdown]
# ## How labels arrive
#
# Left: how much of the fraud is known so many days after it happened. Right: who finds each kind in the end, and what
# nobody ever finds.

# %%
span = [calendar[0] + timedelta(days=n) for n in range(len(calendar) + 120)]
labels = pd.concat([read_labels(world, day).to_pandas() for day in span], ignore_index=True)
truth = events[["event_id", "event_timestamp", "typology", "is_fraud"]]
known = labels.merge(truth, on="event_id", suffixes=("_said", ""))
known["delay"] = (known["observed_at"] - known["event_timestamp"]).dt.total_seconds() / 86_400
found = known[known["is_fraud"] & known["is_fraud_said"]].sort_values("delay").drop_duplicates("event_id")
fraud = events[events["is_fraud"] & (events["event_type"] != "trip_cancelled")]

figure, (left, right) = plt.subplots(1, 2, figsize=(14, 4.6), layout="constrained")
grid = np.linspace(0, max(found["delay"].max(), 1.0), 300)
for colour, (source, part) in zip(plt.get_cmap("tab10").colors, found.groupby("source"), strict=False):
    left.plot(grid, np.searchsorted(part["delay"], grid) / len(fraud), color=colour, label=f"{source} ({len(part)})")
left.plot(grid, np.searchsorted(found["delay"], grid) / len(fraud), color="black", lw=2, label="any")
left.set(title="Fraud known after so many days", xlabel="days since the event", ylabel="share of fraud", ylim=(0, 1))
left.legend(frameon=False)

shares = pd.crosstab(found["typology"], found["source"]).reindex(present, fill_value=0)
shares = shares.div(fraud["typology"].value_counts().reindex(present), axis=0).fillna(0.0)
shares["never"] = 1 - shares.sum(axis=1)
start = np.zeros(len(present))
for colour, source in zip((*plt.get_cmap("tab10").colors[: shares.shape[1] - 1], "#dfe4e8"), shares, strict=True):
    right.barh(range(len(present)), shares[source], left=start, color=colour, label=source)
    start += shares[source].to_numpy()
right.set_yticks(range(len(present)), [name.replace("_", " ") for name in present])
right.invert_yaxis()
right.set(title="Who finds it first", xlabel="share of its scored fraud events", xlim=(0, 1))
right.legend(frameon=False, ncols=len(shares.columns), loc="lower center", bbox_to_anchor=(0.5, -0.28))
plt.show()

# %% [markdown]
# Reviewers err on honest events too. Most false alarms in the labels are theirs.

# %%
wrong = known[known["is_fraud_said"] & ~known["is_fraud"]]
table = known.groupby("source").agg(labels=("event_id", "size"), said_fraud=("is_fraud_said", "sum"))
table["of these honest"] = wrong.groupby("source").size().reindex(table.index, fill_value=0)
table["median delay, days"] = known.groupby("source")["delay"].median().round(1)
table
