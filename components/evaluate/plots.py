"""The plots of a report, each a PNG for any screen and for paper."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.evaluate.results import ModelResult, Report

# Okabe and Ito, "Color universal design", 2008: told apart by colour-blind readers; the lines differ in style too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")
_MOST_TYPOLOGY_MODELS = 4


def draw(report: Report) -> dict[str, bytes]:
    """The plots that the report has data for: title -> PNG."""
    drawn = [model for model in report.models if model.curves]
    typologies = [model for model in report.models if model.measures.get("recall_at_1%_fpr_by_typology")]
    plots = {}
    if drawn:
        plots["Precision and recall"] = _png(lambda axes: _precision_recall(axes, drawn, report.prevalence))
        plots["Calibration"] = _png(lambda axes: _calibration(axes, drawn[:3]))
        plots["Cost against review capacity"] = _png(lambda axes: _cost(axes, drawn))
        plots[f"Scores of {drawn[0].name}"] = _png(lambda axes: _scores(axes, drawn[0]))
    if typologies:
        names = {n for model in typologies for n in model.measures["recall_at_1%_fpr_by_typology"]}
        height = 1.6 + 0.5 * len(names)
        plots["Recall by typology"] = _png(lambda axes: _typologies(axes, typologies, sorted(names)), height)
    if len({week.week for week in report.weeks}) > 1:
        plots["Week by week"] = _png(lambda axes: _weeks(axes, report))
    return plots


def _png(paint: Callable[[Axes], None], height: float = 4.4) -> bytes:
    # Figure itself, not pyplot: a step has no display and keeps no global state.
    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#e5e8eb", linewidth=0.7)
    axes.set_axisbelow(True)
    paint(axes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140)
    return buffer.getvalue()


def _look(place: int) -> dict[str, Any]:
    return {"color": _COLOURS[place % len(_COLOURS)], "linestyle": _STYLES[place % len(_STYLES)]}


def _precision_recall(axes: Axes, models: Sequence[ModelResult], prevalence: float) -> None:
    for place, model in enumerate(models):
        if model.curves:
            axes.step(model.curves.recall, model.curves.precision, where="post", label=model.name, **_look(place))
    axes.axhline(prevalence, color="grey", linewidth=0.9, label="blind (prevalence)")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(fontsize=8)


def _calibration(axes: Axes, models: Sequence[ModelResult]) -> None:
    least = 1.0
    for place, model in enumerate(models):
        if not (c := model.curves):
            continue
        x, y = np.array(c.expected), np.array(c.found)
        floor = max(float(x[x > 0].min()) / 3 if (x > 0).any() else 1e-5, 1e-6)
        least = min(least, floor)
        # A logarithmic axis has no zero: an empty bin and an open interval end at its foot.
        y, low, high = (np.maximum(v, floor) for v in (y, np.array(c.found_low), np.array(c.found_high)))
        shift = 1.06 ** (place - 1)
        axes.errorbar(
            x * shift,
            y,
            yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)],
            fmt="os^"[place % 3],
            markersize=4,
            capsize=2,
            linewidth=0.9,
            color=_COLOURS[place],
            label=model.name,
        )
    axes.plot([least, 1], [least, 1], color="grey", linewidth=0.9, label="perfect")
    axes.set(xscale="log", yscale="log", xlabel="probability given", ylabel="share of fraud found (95 % interval)")
    axes.legend(fontsize=8)


def _cost(axes: Axes, models: Sequence[ModelResult]) -> None:
    for place, model in enumerate(models):
        if model.curves:
            cost = np.array(model.curves.cost_per_day) / 1e6
            axes.plot(model.curves.capacity, cost, marker="o", markersize=3, label=model.name, **_look(place))
    axes.set(xlabel="reviews a day", ylabel="cost a day, million toman")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)


def _scores(axes: Axes, model: ModelResult) -> None:
    if not (c := model.curves):
        return
    for values, label, colour in (
        (c.honest_density, "honest or unknown", _COLOURS[0]),
        (c.fraud_density, "fraud", _COLOURS[1]),
    ):
        axes.stairs(values, c.score_edges, fill=True, alpha=0.45, color=colour, label=label)
    axes.set(xlabel="log10 of the fraud probability", ylabel="density")
    axes.legend(fontsize=8)


def _typologies(axes: Axes, models: Sequence[ModelResult], names: Sequence[str]) -> None:
    models = models[:_MOST_TYPOLOGY_MODELS]
    width = 0.8 / len(models)
    for place, model in enumerate(models):
        values = [model.measures["recall_at_1%_fpr_by_typology"].get(name, float("nan")) for name in names]
        at = np.arange(len(names)) + (place - (len(models) - 1) / 2) * width
        axes.barh(at, values, width, color=_COLOURS[place], label=model.name)
    axes.set(xlim=(0, 1), xlabel="recall at a false positive rate of 1 %")
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.5 / max(len(names), 1)), ncols=2)


def _weeks(axes: Axes, report: Report) -> None:
    weeks = sorted({week.week for week in report.weeks})
    for place, name in enumerate(dict.fromkeys(week.model for week in report.weeks)):
        of_week = [[w.average_precision for w in report.weeks if (w.model, w.week) == (name, week)] for week in weeks]
        middle = [float(np.mean(values)) if values else float("nan") for values in of_week]
        axes.plot(weeks, middle, marker="o", markersize=3, label=name, **_look(place))
        if max(map(len, of_week)) > 1:
            low, high = ([f(values) if values else float("nan") for values in of_week] for f in (min, max))
            axes.fill_between(weeks, low, high, alpha=0.15, color=_COLOURS[place % len(_COLOURS)], linewidth=0)
    axes.set(xlabel="first day of the week", ylabel="average precision")
    axes.set_ylim(bottom=0)
    axes.tick_params(axis="x", rotation=30, labelsize=8)
    axes.legend(fontsize=8)
