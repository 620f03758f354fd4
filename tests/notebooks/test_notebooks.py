"""Every text notebook runs from top to bottom and draws."""

from __future__ import annotations

from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT, Company

# What each prints, and how many pictures it draws at least.
EXPECTED = {
    "01_first_look": ("average precision", 2),
    "02_the_city": ("fraud events of", 5),
    "03_features": ("features: equal to 1e-9", 3),
    "04_graph_model": ("entities in sight are of the ring", 4),
    "06_canary": ("within the binomial band at the end of every share", 4),
}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_and_draws(path: Path, company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_HOME", str(company.workspace.root))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = jupytext.read(path)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(path.parent)}}).execute()
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    pictures = [o for o in outputs if o.output_type == "display_data" and "image/png" in o.data]
    text, least = EXPECTED[path.stem]
    assert len(pictures) >= least
    assert text in "".join(o.text for o in outputs if o.output_type == "stream")
