"""The model card of a registered version: what its bundle says of itself, how it was measured, what it is for.

M. Mitchell et al., "Model Cards for Model Reporting", 2019, gives the sections.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inference_services.bundle import Bundle
from inference_services.model_names import FUSION, GNN, LIGHTGBM

CARD_FILE = "model_card.md"
# What MLflow's database keeps of a description.
_MOST_DESCRIBED = 5000

# The pair in the evaluation whose answers are those of the model.
PAIR = {LIGHTGBM: "lightgbm_alone", GNN: "gnn_alone", FUSION: "challenger"}

# Where the evaluation keeps a measure, and what the card calls it. `{pair}` stands for the model's pair; a measure that
# an evaluation lacks is left out, and of several places the first that is there counts.
MEASURES: tuple[tuple[str, str], ...] = (
    ("events", "events of the test days"),
    ("fraud", "fraud among them"),
    ("prevalence", "prevalence"),
    ("days", "test days"),
    ("pairs/{pair}/average_precision", "average precision"),
    ("pairs/{pair}/average_precision_95", "its 95 % interval"),
    ("pairs/{pair}/recall_at_fpr", "recall at a false positive rate"),
    ("pairs/{pair}/precision_in_top_100_a_day", "precision in the top 100 a day"),
    ("pairs/{pair}/calibration_error", "expected calibration error"),
    ("pairs/{pair}/calibration_slope", "calibration slope"),
    ("pairs/{pair}/brier_skill", "Brier skill"),
    ("pairs/{pair}/top_1%_relative_error", "relative error in the top 1 % of scores"),
    ("pairs/{pair}/recall_at_1%_fpr_by_typology", "recall at 1 % false positive rate by typology"),
    ("pairs/{pair}/recall_at_5%_fpr_by_typology", "recall at 5 % false positive rate by typology"),
    ("pairs/{pair}/cost_saved_share", "share of the cost saved"),
    ("pairs/{pair}/good_blocked_share", "share of good events blocked"),
    ("pairs/{pair}/fairness", "false positive rate ratio between groups"),
    ("pairs/champion/average_precision", "the champion's average precision on the same days"),
    ("pairs/{pair}/minus_champion/average_precision", "average precision above the champion's"),
    ("latency_ms", "time for one event, ms"),
)

_USE = {
    LIGHTGBM: "Scores ride-hailing events from tabular features, as one of two inputs of fraud-fusion, and alone while "
    "the graph model or the feature store is away.",
    GNN: "Scores ride-hailing events from who met whom, as one of two inputs of fraud-fusion, and alone while the "
    "tabular model is away.",
    FUSION: "Combines both models' scores and decides allow, review or block under the cost policy that it names.",
}
_LIMITS = """- Labels come late and wrong: an unlabelled event counts as honest after the maturation window, so a kind
  of fraud that nobody reports is learnt as honest.
- Measured on the test days of one dataset; figures of runs on other datasets cannot be compared with these.
- Not for decisions about persons beyond the event, and not a ground for closing an account without a human's review.
- Cities and event types that training did not see are scored as unknown."""


def model_card(bundle: Bundle, version: int, lineage: Mapping[str, str], evaluation: Mapping[str, Any]) -> str:
    """The card as Markdown.

    Args:
        bundle: the version's bundle; its own `model_card.md` opens the card where it has one.
        version: number in the registry.
        lineage: tags of the version.
        evaluation: content of the step `evaluate`; empty where the model was not judged.
    """
    own = bundle.folder / CARD_FILE
    opening = own.read_text("utf-8").strip() if own.exists() else f"# {bundle.model}"
    measures = "\n".join(f"| {name} | {value} |" for name, value in measure_rows(bundle.model, evaluation))
    judged = f"| measure | value |\n|---|---|\n{measures}" if measures else "Not measured."
    origin = "\n".join(
        f"- {name}: `{value}`" for name, value in sorted(lineage.items()) if name != "storage_uri" and "." not in name
    )
    return f"""{opening}

## Intended use

{_USE[bundle.model]}

## Evaluation

{judged}

## Limits

{_LIMITS}

## Origin

Version {version} of {bundle.model}.

{origin}
"""


def measure_rows(model: str, evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The measures that an evaluation has of a model: name and value in words, in the order of `MEASURES`."""
    rows: dict[str, str] = {}
    for path, name in MEASURES:
        value: Any = evaluation
        for key in path.format(pair=PAIR[model]).split("/"):
            value = value.get(key) if isinstance(value, Mapping) else None
        text = _shown(value)
        if text:
            rows.setdefault(name, text)
    return list(rows.items())


def shortened(card: str, where: str) -> str:
    """The card as a description: cut at a line's end where MLflow keeps less, saying where all of it is."""
    if len(card) <= _MOST_DESCRIBED:
        return card
    rest = f"\n\nThe whole card: `{where}` among the run's artifacts.\n"
    return card[: _MOST_DESCRIBED - len(rest)].rpartition("\n")[0] + rest


def _shown(value: Any) -> str:
    """A number, an interval with or without its middle, or such by name; empty for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | Mapping):
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if "ratio" in value:
        return _shown(value["ratio"])  # what it was made of is in the evaluation
    if {"low", "high"} <= set(value):
        between = f"{_shown(value['low'])} to {_shown(value['high'])}"
        return f"{_shown(value['value'])} ({between})" if "value" in value else between
    parts = [(name, _shown(inner)) for name, inner in value.items()]
    return "; ".join(f"{name}: {text}" for name, text in parts if text)
