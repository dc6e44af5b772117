"""Every setting of every row, its sources, and the table as JSON."""

from __future__ import annotations

import json

import pytest

from harness.report.tables.appendix import settings
from harness.report.tables.main_table import records
from harness.report.tables.tokens import token_tables
from harness.report.write import Report


def text(report: Report, name: str) -> str:
    return (report.folder / name).read_text(encoding="utf-8")


def test_settings_that_all_share_stand_once(report: Report):
    table = settings(report.summary)
    shared = table[table["row"] == "all rows"].set_index("setting")["value"]
    assert shared["batch_size"] == "32" and shared["budget text"] == "3epochs" and "learning_rate" not in shared
    rates = table[table["setting"] == "learning_rate"].set_index("row")["value"]
    assert rates["sft"] == "0.0001" and rates["lora+nlirg"] == "0.001"


def test_every_setting_of_every_method(report: Report):
    table = settings(report.summary).set_index(["row", "method", "setting"])["value"]
    assert table["lora+nlirg", "lora", "alpha"] == "16" and table["lora+nlirg", "nlirg", "scale"] == "nats"
    assert table["ewc", "—", "—"] == "was never run"


def test_appendix_files_name_sources(report: Report):
    assert "- **lora**: Hu et al. 2021, eq. 3 & 50 % of it" in text(report, "appendix.md")
    assert "```bibtex\n@article{hu2021lora," in text(report, "appendix.md")
    assert r"\item[lora] Hu et al. 2021, eq. 3 \& 50 \% of it \cite{hu2021lora}" in text(report, "appendix.tex")
    assert r" & training & batch\_size & 32 \\" in text(report, "appendix.tex")
    assert text(report, "references.bib").count("@article") == 1


def test_json_holds_the_numbers_of_the_table(report: Report):
    lines = json.loads(text(report, "table.json"))
    assert [line["row"] for line in lines] == report.table["row"].tolist()
    by_row = {line["row"]: line for line in lines}
    assert by_row["sft"]["gain"] == pytest.approx(report.table.set_index("row").loc["sft", "gain"])
    assert by_row["ewc"]["gain"] is None and "NaN" not in records(report.table)


def test_weights_are_means_over_all_steps(report: Report):
    _, table = report.summary.computed(token_tables)
    assert set(table["row"]) == {"lora+nlirg"}
    assert table["weight"].tolist()[:2] == pytest.approx([0.2, 1.0]) and table["tokens"].tolist() == [0.5, 0.5, 0]
    assert table["weight"].isna().tolist() == [False, False, True]
