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
# # A first look
#
# A training set, the champion's scores on it, and how they are distributed. It needs a run: `make demo`, or
# `fraud simulate`, `fraud data ingest`, `fraud data snapshot` and `fraud train`.
# `FRAUD_HOME` names another folder than `.local/demo`.

# %%
import json
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import yaml
from sklearn.metrics import average_precision_score, precision_recall_curve

from components.build_training_set.logic import SplitSettings, build
from feature_repo.datasets import Dataset
from feature_repo.feature_names import MODEL_FEATURES
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from inference_services.policy_settings import ThresholdSettings

root = next(p for p in [Path.cwd(), *Path.cwd().parents] if (p / "manifests").is_dir())
home = Path(os.environ.get("FRAUD_HOME", root / ".local" / "demo"))
runs = sorted((home / "pipeline").glob("*/arguments.json"), key=lambda p: p.stat().st_mtime)
bundles = sorted((home / "bundles" / "fraud-lightgbm").glob("*"), key=lambda p: int(p.name.split("-")[0]))
if not runs or not bundles:
    raise SystemExit(f"nothing trained in {home}: run `make demo` first")

# %% [markdown]
# ## The training set
#
# Every scored event with the features that it had *when it arrived*: Feast's point-in-time join on DuckDB. `y` is 1 for
# labelled fraud, 0 for what is known or old enough to be honest, and missing where nobody knows yet. Dataset, policy
# and splits are those of the newest pipeline run.

# %%
run = json.loads(runs[-1].read_text())
policy = ThresholdSettings.model_validate(yaml.safe_load(run["policy"]))
dataset = Dataset.open(Path(run["dataset_path"]))
splits = SplitSettings(**run["splits"])
frame = build(dataset, home / "notebook" / dataset.sha12, policy.label_maturation_days, splits)
print(f"dataset {dataset.sha12}: {len(frame):,} scored events, {len(MODEL_FEATURES)} features")
frame.groupby("split", sort=False)["y"].agg(events="size", known="count", fraud="sum")

# %% [markdown]
# ## Scores
#
# The newest registered LightGBM bundle, through the code that serves it. Only the test split is new to it.

# %%
scorer = LightGbmScorer.load(bundles[-1])
test = frame[(frame["split"] == "test") & frame["y"].notna()]
probability = scorer.score(scorer.encode(test, len(test))).probability
y = test["y"].to_numpy() == 1
print(f"{bundles[-1].name}: average precision {average_precision_score(y, probability):.3f}, prevalence {y.mean():.3%}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
bins = np.linspace(-12, 4, 65)
log_odds = np.log(probability) - np.log1p(-probability)
for name, rows, colour in (("honest", ~y, "#7a8a99"), ("fraud", y, "#c0392b")):
    left.hist(log_odds[rows], bins=bins, density=True, alpha=0.65, label=f"{name} ({rows.sum():,})", color=colour)
left.set(title="Calibrated log-odds, test days", xlabel="log-odds of fraud", ylabel="density")
left.legend()
precision, recall, _ = precision_recall_curve(y, probability)
right.plot(recall, precision, color="#1f618d")
right.axhline(y.mean(), color="#7a8a99", linestyle=":", label="prevalence")
right.set(title="Precision and recall, test days", xlabel="recall", ylabel="precision", ylim=(0, 1.02))
right.legend()
plt.show()

# %% [markdown]
# ## By kind of fraud
#
# Which kinds does a model of single events find, and which does it leave to the graph network?

# %%
kinds = test["typology"].where(y)
order = sorted(kinds.dropna().unique())
alarm = np.quantile(probability[~y], 0.99)
figure, axis = plt.subplots(figsize=(8, 0.8 + 0.6 * len(order)), layout="constrained")
shares = [float((probability[(kinds == kind).to_numpy()] > alarm).mean()) for kind in order]
axis.barh(order, shares, color="#c0392b")
for position, share in enumerate(shares):
    axis.text(share + 0.01, position, f"{share:.0%}", va="center")
axis.set(title="Recall at 1 % false positive rate", xlim=(0, 1.1), xlabel="share found")
plt.show()
