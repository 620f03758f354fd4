from __future__ import annotations

from pathlib import Path

from components.register_model.card import measure_rows, model_card, shortened
from inference_services.bundle import Bundle, write_manifest
from tests.pipeline.model_sets import EVALUATION


def bundle(folder: Path, card: str | None = "# fraud-gnn\n\nA network.\n") -> Bundle:
    if card:
        (folder / "model_card.md").write_text(card)
    (folder / "w").write_text("")
    return write_manifest(folder, "fraud-gnn", {})


def test_measures_are_those_of_the_model_s_own_pair() -> None:
    found = {model: dict(measure_rows(model, EVALUATION)) for model in ("fraud-lightgbm", "fraud-gnn", "fraud-fusion")}
    assert [rows["average precision"] for rows in found.values()] == ["0.35", "0.22", "0.41"]
    assert found["fraud-gnn"]["recall at a false positive rate"] == "0.1%: 0.2; 1.0%: 0.5"
    assert found["fraud-gnn"]["fraud among them"] == "12"


def test_a_measure_that_an_evaluation_lacks_is_left_out() -> None:
    assert measure_rows("fraud-gnn", {}) == []
    assert measure_rows("fraud-gnn", {"pairs": {"gnn_alone": {"average_precision": "?", "fairness": [1]}}}) == []


def test_intervals_are_told_with_their_middle() -> None:
    ratio = {"value": 0.95, "low": 0.81, "high": 1.2}
    own = {
        "calibration_slope": {"value": 1.0, "low": 0.9, "high": 1.1},
        "fairness": {"city": {"ratio": ratio, "groups": {"shiraz": {"honest": 3}}}, "tenure": {"ratio": ratio}},
        "something": {"new": 1},
    }
    assert measure_rows("fraud-gnn", {"pairs": {"gnn_alone": own}}) == [
        ("calibration slope", "1 (0.9 to 1.1)"),
        ("false positive rate ratio between groups", "city: 0.95 (0.81 to 1.2); tenure: 0.95 (0.81 to 1.2)"),
    ]


def test_a_card_has_its_sections_and_no_address(tmp_path: Path) -> None:
    card = model_card(bundle(tmp_path), 3, {"git_commit": "abc", "storage_uri": "file:///x"}, EVALUATION)
    titles = [line for line in card.splitlines() if line.startswith("#")]
    assert titles == ["# fraud-gnn", "## Intended use", "## Evaluation", "## Limits", "## Origin"]
    assert "A network." in card
    assert "- git_commit: `abc`" in card
    assert "file://" not in card


def test_a_model_that_was_not_judged_says_so(tmp_path: Path) -> None:
    assert "Not measured." in model_card(bundle(tmp_path, card=None), 1, {}, {})


def test_a_long_card_is_cut_at_a_line_and_says_where_all_of_it_is() -> None:
    card = "".join(f"line {n}\n" for n in range(2000))
    short = shortened(card, "cards/x.md")
    assert len(short) <= 5000
    kept, _, rest = short.rpartition("\n\n")
    assert card.startswith(kept + "\n")
    assert "`cards/x.md`" in rest
