"""One self-contained HTML page of an evaluation, and the same as JSON: no network, no script."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from components.evaluate.logic import to_json
from components.evaluate.plots import draw
from components.evaluate.results import Check, ModelResult, Report

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2833; background: #fff; margin: 0 auto; padding: 1.2rem;
  max-width: 1100px; }
h1 { font-size: 1.5rem; margin: 0 0 .6rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
dt { color: #5b6770; } dd { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .65rem; border-bottom: 1px solid #dde2e6; text-align: right; vertical-align: top; }
th { font-weight: 600; border-bottom-color: #9aa5ad; } td { white-space: nowrap; }
th:first-child, td:first-child, .text td { text-align: left; } .text th { text-align: left; }
.text td { white-space: normal; }
small { color: #5b6770; display: block; font-size: .78rem; }
.met { color: #17693b; } .missed { color: #a32020; font-weight: 600; } .open { color: #7a5a00; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 1rem 1.5rem; }
figure { margin: 0; break-inside: avoid; } figcaption { font-weight: 600; margin-bottom: .2rem; }
img { width: 100%; height: auto; }
p.note { color: #44525e; margin: .4rem 0; max-width: 75ch; }
@media (max-width: 600px) { body { padding: .7rem; } dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print { body { max-width: none; padding: 0; font-size: 11px; } h2 { break-after: avoid; }
  tr { break-inside: avoid; } .wide { overflow: visible; } .plots { grid-template-columns: 1fr 1fr; } }
"""

Cell = Callable[[Mapping[str, Any]], str]


def write_report(report: Report, html: Path, json: Path) -> None:
    """Writes the page and the JSON of the same content."""
    html.write_text(render(report), "utf-8")
    json.write_text(to_json(asdict(report)), "utf-8")


def render(report: Report) -> str:
    """The page; whatever comes from outside is escaped."""
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in report.facts.items())
    plots = "".join(
        f'<figure><figcaption>{escape(title)}</figcaption><img alt="{escape(title, quote=True)}" '
        f'src="data:image/png;base64,{b64encode(png).decode()}"></figure>'
        for title, png in draw(report).items()
    )
    parts = [
        f"<h1>{escape(report.title)}</h1><dl>{facts}</dl>",
        *(f'<p class="note">{escape(note)}</p>' for note in report.notes),
        _section("What had to hold", _checks(report.checks)),
        _section("Ranking", _measures(report.models, _RANKING)),
        _section("Probabilities and decisions", _decisions(report.models)),
        _section("Plots", f'<div class="plots">{plots}</div>' if plots else ""),
        _section("Average precision by typology", _typologies(report.models)),
        _section("False positive rates by group", _fairness(report.models)),
        _section("Week by week", _weeks(report)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], style: str = "") -> str:
    """A table of cells that are HTML already; the head is text."""
    if not rows:
        return ""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide {style}"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _checks(checks: Sequence[Check]) -> str:
    words = {True: '<span class="met">met</span>', False: '<span class="missed">missed</span>'}
    undecided = '<span class="open">undecided</span>'
    rows = [
        [*map(escape, (c.name, c.found, c.bound)), undecided if c.passed is None else words[c.passed], escape(c.note)]
        for c in checks
    ]
    return _table(["", "found", "asked for", "", "note"], rows, "text")


def _number(form: str, *path: str) -> Cell:
    def cell(measures: Mapping[str, Any]) -> str:
        return _shown(_at(measures, path), form)

    return cell


def _with_interval(form: str, *path: str, ends: tuple[str, ...] | None = None) -> Cell:
    """A value, and its interval below it; `ends` says where that is when it is not beside the value."""

    def cell(measures: Mapping[str, Any]) -> str:
        value = _at(measures, path if ends else (*path, "value"))
        around = _at(measures, ends or path)
        low, high = (_at(around, (side,)) for side in ("low", "high"))
        known = _is_number(low) and _is_number(high)
        below = f"<small>{_shown(low, form)} to {_shown(high, form)}</small>" if known else ""
        return _shown(value, form) + below

    return cell


# Two tables, each narrow enough for a sheet of paper.
_RANKING: dict[str, Cell] = {
    "average precision": _with_interval(".3f", "average_precision", ends=("average_precision_95",)),
    "less the champion's": _with_interval("+.3f", "minus_champion", "average_precision"),
    "recall at 0.1\u00a0% FPR": _number(".1%", "recall_at_fpr", "0.1%"),
    "at 1\u00a0%": _number(".1%", "recall_at_fpr", "1.0%"),
    "at 5\u00a0%": _number(".1%", "recall_at_fpr", "5.0%"),
    "precision in the top 100 a day": _number(".1%", "precision_in_top_100_a_day"),
}
_DECISIONS: dict[str, Cell] = {
    "calibration slope": _with_interval(".2f", "calibration_slope"),
    "calibration error": _number(".4f", "calibration_error"),
    "Brier skill": _with_interval(".3f", "brier_skill"),
    "error in the top 1\u00a0%": _with_interval(".1%", "top_1%_relative_error"),
    "cost saved, of the oracle's": _number(".1%", "cost_saved_share"),
    "of the review oracle's": _number(".1%", "cost_saved_share_of_review_oracle"),
    "good events blocked": _number(".3%", "good_blocked_share"),
}
_ORACLES = (
    "The oracle blocks every fraud and nothing else; the review oracle stops fraud only through the reviewers, within "
    "their capacity."
)


def _measures(models: Sequence[ModelResult], columns: Mapping[str, Cell]) -> str:
    """One row for each model; a column that none has is left out."""
    cells = {name: [cell(model.measures) for model in models] for name, cell in columns.items()}
    shown = {name: column for name, column in cells.items() if any(text != _NOTHING for text in column)}
    rows = [[_name(model), *(column[place] for column in shown.values())] for place, model in enumerate(models)]
    return _table(["", *shown], rows)


def _decisions(models: Sequence[ModelResult]) -> str:
    deciding = [model for model in models if any(cell(model.measures) != _NOTHING for cell in _DECISIONS.values())]
    table = _measures(deciding, _DECISIONS)
    return f'<p class="note">{escape(_ORACLES)}</p>{table}' if table else ""


def _name(model: ModelResult) -> str:
    return escape(model.name) + ("" if model.role == "model" else f"<small>{escape(model.role)}</small>")


def _typologies(models: Sequence[ModelResult]) -> str:
    found = [model.measures.get("average_precision_by_typology") or {} for model in models]
    names = sorted({name for values in found for name in values})
    rows = [[escape(name.replace("_", " ")), *(_shown(v.get(name), ".3f") for v in found)] for name in names]
    return _table(["against honest events", *(model.name for model in models)], rows)


def _fairness(models: Sequence[ModelResult]) -> str:
    """The first model's groups at its 5 % threshold, and the ratio of each division."""
    divisions = (models[0].measures.get("fairness") or {}) if models else {}
    rows = []
    for division, found in divisions.items():
        for name, group in found["groups"].items():
            aside = "" if group["compared"] else "<small>not compared</small>"
            label = f"{escape(division.replace('_', ' '))}: {escape(str(name))}{aside}"
            rows.append([label, f"{group['honest']:,}", _with_interval(".2%", "rate")({"rate": group})])
        ratio = _with_interval(".2f", "ratio")(found)
        title = escape(division.replace("_", " "))
        rows.append([f"<b>{title}: lowest over highest</b>", "", ratio])
        equal = _shown(found.get("recall_at_equal_rates"), ".1%")
        rows.append([f"{title}: recall with a threshold for each group", "", equal])
    about = (
        f'<p class="note">{escape(models[0].name)}, at the threshold that 5 % of all honest events reach. Small groups '
        "and the unknown are shown and not compared.</p>"
        if rows
        else ""
    )
    return about + _table(["group", "honest events", "false positive rate"], rows)


def _weeks(report: Report) -> str:
    """Mean over seeds by model and week."""
    weeks = sorted({week.week for week in report.weeks})
    rows = []
    for name in dict.fromkeys(week.model for week in report.weeks):
        cells = []
        for week in weeks:
            values = [w.average_precision for w in report.weeks if (w.model, w.week) == (name, week)]
            spread = f"<small>{min(values):.3f} to {max(values):.3f}</small>" if len(values) > 1 else ""
            cells.append(_shown(math.fsum(values) / len(values), ".3f") + spread if values else _NOTHING)
        rows.append([escape(name), *cells])
    return _table(["average precision", *weeks], rows)


_NOTHING = "&ndash;"


def _at(measures: Any, path: Sequence[str]) -> Any:
    for name in path:
        measures = measures.get(name) if isinstance(measures, Mapping) else None
    return measures


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _shown(value: Any, form: str) -> str:
    return format(value, form) if _is_number(value) else _NOTHING
