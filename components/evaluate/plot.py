"""Two pictures of an evaluation: precision against recall, and where the scores of both classes lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve


def write_plot(scores: pd.DataFrame, pairs: list[str], path: Path) -> None:
    """Writes a PNG of the test days.

    Args:
        scores: fused probabilities with y and split.
        pairs: the columns to draw, "challenger" among them.
        path: the file.
    """
    test = scores[scores["split"] == "test"]
    y = test["y"].to_numpy(float)
    # Figure itself, not pyplot: a step has no display and keeps no global state.
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    curve, spread = figure.subplots(1, 2)
    for name in pairs:
        precision, recall, _ = precision_recall_curve(y, test[name])
        curve.step(recall, precision, where="post", label=name.replace("_", " "))
    curve.axhline(y.mean(), color="grey", linestyle=":", label="prevalence")
    curve.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1), title="Test days")
    curve.legend()
    p = np.clip(test["challenger"].to_numpy(float), 1e-6, 1 - 1e-6)
    bins = np.linspace(np.log10(p.min()), 0, 50).tolist()
    for value, label in ((0, "honest or unknown"), (1, "fraud")):
        spread.hist(np.log10(p[y == value]), bins=bins, density=True, alpha=0.6, label=label)
    spread.set(xlabel="log10 of the fraud probability", ylabel="density", title="Challenger's scores")
    spread.legend()
    figure.savefig(path, format="png", dpi=110)
