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
# # A canary
#
# Two versions of LightGBM side by side, as the decision log tells of them: who answered for how much, what they
# decided and how fast, what it cost, and what the judge of a rollout would have said, and when.
#
# `FRAUD_HOME` names the folder of a run, else `.local/demo`. Where its decision log holds no canary, the notebook makes
# one: the real decider, before a real Redis, decides the live day with both versions that were trained. To be quick it
# leaves the graph network out, so that its decisions name it as missing, and folds no event in.

# %%
import asyncio
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import redis
from scipy import stats

from components.judge_canary.logic import CHALLENGER, CHAMPION, JudgeSettings, Observed, judge
from components.judge_canary.sequential import Mean, difference
from components.observe_canary.decisions import Arms, observed, outcomes, read_decisions, versions_of
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import log_days
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.ingestion import with_pseudonyms
from feature_repo.online_reader import OnlineReader
from feature_repo.settings import FEAST_PROJECT
from feature_repo.streaming.rebuild import rebuild
from inference_services.bundle import sha12_of, verify
from inference_services.decision_log.files import append
from inference_services.errors import PredictorGone
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from inference_services.model_names import FUSION, GNN, LIGHTGBM
from inference_services.policy_settings import ThresholdSettings
from inference_services.transformer.decider import Decider
from inference_services.transformer.feature_tensors import FEATURE_PARAMETERS, FEATURES
from inference_services.transformer.fusion import Fusion
from inference_services.transformer.predictors import Answer
from pipelines.replay import read_day
from pipelines.workspace import Workspace
from simulators.local_kserve.traffic import Split, Target
from simulators.local_services import RedisServer

root = next(p for p in [Path.cwd(), *Path.cwd().parents] if (p / "manifests").is_dir())
workspace = Workspace(Path(os.environ.get("FRAUD_HOME", root / ".local" / "demo")))
policy = ThresholdSettings.read(root / "manifests" / "base" / "policy" / "threshold_settings.yaml")
INK, GREY, RED, GREEN = "#1f618d", "#7a8a99", "#c0392b", "#1e8449"
ERROR = 0.05
scratch = tempfile.TemporaryDirectory()


def numbered(model):
    """The published versions of a model, the oldest first."""
    return sorted((workspace.bundles / model).glob("*"), key=lambda p: int(p.name.split("-")[0]))


# %% [markdown]
# ## The log
#
# The requests are split as the local KServe splits them. At half of the day the canary's share goes from 10 to 50 %.


# %%
class TwoVersions:
    """Stands before two versions of LightGBM, as a revision's router does."""

    model = LIGHTGBM

    def __init__(self, versions):
        self.versions = {name: LightGbmScorer.load(folder) for name, folder in versions.items()}
        self.labels = {name: verify(folder, LIGHTGBM).label for name, folder in versions.items()}

    def share(self, percent):
        self.split = Split((Target("challenger", percent, True), Target("champion", 100 - percent, False)))

    async def infer(self, tensors, rows, deadline, outputs=()):
        if outputs:
            raise PredictorGone("no contributions here: flagged events stay without reasons")
        name = self.split.choose()
        scorer = self.versions[name]
        numbers = dict(zip(FEATURE_PARAMETERS[FEATURES]["columns"].split(","), tensors[FEATURES].T, strict=True))
        scores = scorer.score(scorer.encode(tensors | numbers, rows))
        values = {kind: getattr(scores, kind) for kind in ("raw_score", "log_odds", "probability")}
        return Answer(values, self.labels[name], {})


class Away:
    model = GNN

    async def infer(self, *_):
        raise PredictorGone("left out")


async def decide(url, events, log):
    lightgbm = TwoVersions(dict(zip(("champion", "challenger"), numbered(LIGHTGBM)[-2:], strict=True)))
    reader = OnlineReader(url, FEAST_PROJECT, timeout_s=5)
    decider = Decider(reader, lightgbm, Away(), Fusion.load(numbered(FUSION)[-1]), budget_s=5)
    records, shares = [], []
    for n in range(len(events)):
        if n in (0, len(events) // 2):
            lightgbm.share(50 if n else 10)
            shares.append((pd.Timestamp.now("UTC"), 0.5 if n else 0.1))
        decided = await decider.decide(events.take(np.array([n])))
        records += decided.records.encode()
    await reader.close()
    now = int(pd.Timestamp.now("UTC").timestamp() * 1000)
    append(log, [(f"{now}-{n}", record) for n, record in enumerate(records)])
    return shares


def make_canary():
    batch = EventBatch.from_arrow(read_day(workspace.world / "events", workspace.live_day()))
    scored = np.flatnonzero(np.isin(batch["event_type"].astype(str), SCORED_EVENT_TYPES))
    events = with_pseudonyms(batch.take(scored), workspace.pseudonymiser())
    log = Path(scratch.name) / "decision_log"
    with RedisServer(Path(scratch.name) / "redis") as server, ThreadPoolExecutor(1) as thread:
        with redis.Redis.from_url(server.url) as client:
            rebuild(workspace.event_log, client, FEAST_PROJECT)
        # A notebook has an event loop already.
        return log, thread.submit(asyncio.run, decide(server.url, events, log)).result()


def rollout_shares():
    """(since, share) of the last canary: as `fraud rollout` noted it, else the one share of `fraud demo`."""
    journal = workspace.root / "rollout" / "journal.jsonl"
    if not journal.exists():
        return [(pd.Timestamp(0, tz="UTC"), 0.1)]
    steps = [json.loads(line) for line in journal.read_text().splitlines()]
    begun = max(n for n, step in enumerate(steps) if step["action"] == "start")
    return [(pd.Timestamp(s["at"]), s["percent"] / 100) for s in steps[begun:] if s["action"] in {"start", "ramp"}]


if len(numbered(LIGHTGBM)) < 2:
    raise SystemExit(f"no two versions in {workspace.bundles}: run `make demo` first")
own = len([v for v, n in versions_of(workspace.decision_log, LIGHTGBM).items() if n >= 100]) < 2
log, shares = make_canary() if own else (workspace.decision_log, rollout_shares())
champion, challenger = sorted(versions_of(log, LIGHTGBM), key=lambda label: int(label.split("-")[0]))[-2:]
arms = Arms(LIGHTGBM, sha12_of(champion), sha12_of(challenger))
decisions = read_decisions(log, arms, shares[0][0])
decisions["arm name"] = decisions["arm"].map({CHALLENGER: "challenger", CHAMPION: "champion"}).fillna("nobody")
shares[0] = (max(shares[0][0], decisions["decided_at"].iloc[0]), shares[0][1])
print(f"{len(decisions):,} decisions; champion {champion}, challenger {challenger}")
decisions.groupby("arm name").size()

# %% [markdown]
# ## Who answered
#
# The challenger's part of each share so far, with the band in which a binomial share lies at that many requests (99 %,
# pointwise). The local KServe's split keeps closer to its percent than chance would; Knative's gateway draws.

# %%
seconds = (decisions["decided_at"] - decisions["decided_at"].iloc[0]).dt.total_seconds().to_numpy()
is_challenger = (decisions["arm"] == CHALLENGER).to_numpy()
figure, axis = plt.subplots(figsize=(11, 3.8), layout="constrained")
edges = [*(np.searchsorted(decisions["decided_at"], at) for at, _ in shares), len(decisions)]
outside = []
for (begin, end), (_, share) in zip(pairwise(edges), shares, strict=True):
    n = np.arange(1, end - begin + 1)
    low, high = stats.binom.interval(0.99, n, share)
    hits = is_challenger[begin:end].cumsum()
    outside.append(not low[-1] <= hits[-1] <= high[-1])
    at = seconds[begin:end]
    axis.fill_between(at, low / n, high / n, color=GREY, alpha=0.25, lw=0)
    axis.axhline(share, color=GREY, lw=0.6, linestyle=":")
    axis.plot(at, hits / n, color=INK)
    print(f"asked for {share:.0%}: {hits[-1]:,} of {n[-1]:,} decisions, {hits[-1] / n[-1]:.1%}")
axis.set(title="The challenger's share", xlabel="seconds", ylabel="of the decisions of this share", ylim=(0, 1))
axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
plt.show()
print("within the binomial band at the end of every share" if not any(outside) else "OUTSIDE of the binomial band")

# %% [markdown]
# ## What they decided, and how fast
#
# Shares of decisions with Wilson's intervals (95 %), scores as distributions, and quantiles of the latency with the
# intervals that order statistics give (95 %). Each looks once: for a log that is complete.

# %%
ARMS = {"champion": (CHAMPION, GREY), "challenger": (CHALLENGER, INK)}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
for offset, (name, (arm, colour)) in zip((-0.15, 0.15), ARMS.items(), strict=True):
    rows = decisions[decisions["arm"] == arm]
    for at, kind in enumerate(("review", "block")):
        test = stats.binomtest(int((rows["decision"] == kind).sum()), len(rows))
        ci = test.proportion_ci(method="wilson")
        bounds = [[max(test.statistic - ci.low, 0)], [max(ci.high - test.statistic, 0)]]
        left.errorbar(at + offset, test.statistic, bounds, fmt="o", capsize=3, color=colour, label=None if at else name)
    scored = np.sort(rows.loc[rows["fraud_probability"] > 0, "fraud_probability"])
    middle.step(scored, np.arange(1, len(scored) + 1) / len(scored), where="post", color=colour, label=name)
    took = np.sort(rows["latency_ms"])
    for at, q in enumerate((0.5, 0.9, 0.99)):
        low, high = (int(np.clip(k, 0, len(took) - 1)) for k in stats.binom.interval(0.95, len(took), q))
        value = took[min(int(q * len(took)), len(took) - 1)]
        right.errorbar(
            at + offset, value, [[value - took[low]], [took[high] - value]], fmt="o", capsize=3, color=colour
        )
left.set(title="Decisions", xticks=(0, 1), xticklabels=("review", "block"), ylim=(0, None), xlim=(-0.5, 1.5))
left.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
middle.set(title="Fraud probability", xscale="log", ylabel="share of decisions below")
right.set(title="Latency, ms", xticks=(0, 1, 2), xticklabels=("p50", "p90", "p99"), ylim=(0, None), xlim=(-0.5, 2.5))
left.legend(frameon=False)
plt.show()

# %% [markdown]
# ## What it cost
#
# What the policy says each wrong decision costs, known weeks later: of events that are older than the longest window in
# which labels come, an unlabelled one counts as honest. A blocked fraud is complained about by nobody, so blocks look
# dearer than they are, for both versions alike.
#
# The band is a confidence sequence: it holds at every number of decisions at once, so that one may look at any time and
# stop (Waudby-Smith et al. 2021, an asymptotic one by Robbins' normal mixture; Howard et al. 2021 have the exact
# relatives). An ordinary interval, dashed, holds at one number of decisions, chosen before.

# %%
as_of = pd.Timestamp(log_days(workspace.label_log)[-1], tz="UTC") + timedelta(days=1)
outcome = outcomes(decisions, workspace.label_log, as_of, policy)
seen = observed(decisions, policy.latency_budget_ms, outcome, policy)
known = np.isfinite(seen.cost)
latest = edges[-2]  # of one share: a mean over several would mix times of day with versions


def means(end):
    rows = np.arange(len(decisions))
    rows = (rows >= latest) & (rows < end) & known
    return [Mean.of(seen.cost[rows & seen.of(arm)], seen.unit[rows & seen.of(arm)]) for arm in (CHALLENGER, CHAMPION)]


looks = np.unique(np.linspace(latest + 20, len(decisions), 80).astype(int))
pairs = [means(end) for end in looks]
always = [difference(*pair, ERROR) for pair in pairs]
once = [stats.norm.ppf(1 - ERROR / 2) * np.sqrt(a.variance + b.variance) for a, b in pairs]
value = np.array([found.value for found in always])
figure, axis = plt.subplots(figsize=(11, 4), layout="constrained")
axis.fill_between(
    looks - latest, [f.low for f in always], [f.high for f in always], color=INK, alpha=0.18, lw=0, label="at any time"
)
for sign in (-1, 1):
    axis.plot(
        looks - latest, value + sign * np.array(once), color=GREY, lw=1, ls="--", label="once" if sign > 0 else None
    )
axis.plot(looks - latest, value, color=INK)
axis.axhline(0, color="black", lw=0.7)
widest = np.nanmax([abs(x) for f in always[len(always) // 4 :] for x in (f.low, f.high) if np.isfinite(x)] or [1.0])
axis.set(
    title="Cost of a decision, challenger less champion",
    xlabel="decisions at the last share",
    ylabel="toman",
    ylim=(-1.1 * widest, 1.1 * widest),
)
axis.legend(frameon=False)
plt.show()
last = always[-1]
fraud = int(np.nansum(outcome))
print(f"{known.sum():,} outcomes known, {fraud} of them fraud")
print(f"challenger less champion: {last.value:+,.0f} toman a decision ({last.low:+,.0f} to {last.high:+,.0f}, 95 %)")

# %% [markdown]
# ## What the judge would have said
#
# The judge of `fraud rollout`, asked over and over within each share with what was known by then: which is everything
# but the cost. Red sends the canary back, and green in all rows lets it go on. The cost is green until it is known to
# be higher: it holds no canary up. The bounds are those of `JudgeSettings`, the latency budget that of the policy.

# %%
settings = JudgeSettings()
COLOURS = {"open": "#f4f6f7", "good": "#a9dfbf", "bad": RED}
at_once = observed(decisions, policy.latency_budget_ms)


def between(begin, end):
    return Observed(*(getattr(at_once, name)[begin:end] for name in ("unit", "arm", "slow", "alarmed", "cost")))


columns, said = [], []
for begin, end, (_, share) in zip(edges[:-1], edges[1:], shares, strict=True):
    for until in np.unique(np.linspace(begin, end, 41).astype(int))[1:]:
        verdict = judge(between(begin, until), share, settings)
        columns.append((until, verdict))
        said.append((share, until - begin, verdict.action))
measures = [finding.measure for finding in columns[0][1].findings]
figure, axis = plt.subplots(figsize=(12, 0.45 * len(measures) + 1), layout="constrained")
start = 0
for until, verdict in columns:
    for row, finding in enumerate(verdict.findings):
        axis.barh(row, until - start, left=start, color=COLOURS[finding.says], height=0.8)
    start = until
for begin in edges[1:-1]:
    axis.axvline(begin, color="black", lw=0.8)
axis.set(title="Findings", xlabel="decision", yticks=range(len(measures)), yticklabels=measures)
axis.invert_yaxis()
plt.show()
for _, share in shares:
    first = next(((n, action) for s, n, action in said if s == share and action != "wait"), None)
    told = f"{first[1]} after {first[0]:,} decisions" if first else "wait, to the end"
    print(f"at {share:.0%} the judge says: {told}")
pd.DataFrame([{"measure": f.measure, "says": f.says, "found": f.found} for f in columns[-1][1].findings])

# %%
scratch.cleanup()
