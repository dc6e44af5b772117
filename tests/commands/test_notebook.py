"""The example notebook, run as a reader would run it: in a folder of its own, from the first cell to the last."""

from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_comparison.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Jupyter's own
def test_the_notebook_runs_from_beginning_to_end(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    report = tmp_path / "results" / "first" / "report.html"
    page = report.read_text(encoding="utf-8")
    # the second comparison adds a row and keeps the others
    for row in ("sft", "mix", "focal.py:Focal"):
        assert row in page
