"""Forms for people and what comes back: blind, offline, agreeing with published numbers."""

from __future__ import annotations

import csv
import html
import json
import math
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_store import HOSTILE, ROWS, build
from test_report_browser import BROWSER, QUIET

from harness.commands.annotate import ratings
from harness.commands.annotate.forms import SCALES, export_forms
from harness.commands.annotate.ratings import import_ratings
from harness.errors import PlanError
from harness.report.write import write_report
from harness.store.files import read_json, write_json
from harness.store.runs import RunStore


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(results, forms) of a small comparison whose plain fine-tuning says hostile things."""
    out = tmp_path_factory.mktemp("people")
    build(out, hostile=True, curves=False, items=0.1)
    return out, export_forms("finance", str(out / "forms"), items=60, out=str(out))


def key_of_form(out: Path) -> dict:
    (path,) = (out / "finance" / "people").iterdir()
    return read_json(path)


def filled(out: Path, folder: Path, rate) -> list[str]:
    """Saved forms of three annotators; `rate`: (annotator, output, scale) -> rating."""
    key, files = key_of_form(out), []
    for annotator in "123":
        given = {one["id"]: {scale: rate(int(annotator), one, scale) for scale in SCALES} for one in key["outputs"]}
        files.append(str(folder / f"{annotator}.json"))
        write_json(Path(files[-1]), {"form": key["form"], "annotator": annotator, "ratings": given})
    return files


def test_forms_are_blind_shuffled_and_big_enough(exported):
    out, forms = exported
    outputs = key_of_form(out)["outputs"]
    pages = [form.read_text(encoding="utf-8") for form in forms]
    orders = [re.findall(r'<article data-id="(\w+)"', page) for page in pages]
    assert len(forms) == 3
    assert len(outputs) >= 60
    assert all(sorted(order) == sorted(one["id"] for one in outputs) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    for page in pages:
        assert not re.search(r"\b(sft|lora|distill|replay|low_lr)\b", page)
        assert "http:" not in page and "https:" not in page
    assert export_forms("finance", str(out / "again"), items=60, out=str(out))[0].read_text() == pages[0]


def test_every_prompt_is_judged_for_every_row_and_equal_answers_once(exported):
    outputs = key_of_form(exported[0])["outputs"]
    judged = {row for row, (role, *_) in ROWS.items() if role != "control" and row != "ewc"}
    by_prompt = {}
    for one in outputs:
        by_prompt.setdefault(one["item"], []).append(one)
    for same in by_prompt.values():
        assert sorted(row for one in same for row in one["rows"]) == sorted(judged)
        assert len({one["output"] for one in same}) == len(same)
    groups = [one["group"] for one in outputs]
    assert 0.3 < groups.count("domain") / len(groups) < 0.7


def test_the_chat_template_is_not_shown():
    from harness.commands.annotate.forms import without_template

    prompts = ["<bos><s>user\nWhat is <b>?</s>\n<s>assistant\n", "<bos><s>user\nWhat was it?</s>\n<s>assistant\n"]
    assert list(without_template(prompts).values()) == ["What is <b>?", "What was it?"]


def test_what_a_model_wrote_is_shown_and_not_run(tmp_path):
    from harness.commands.annotate.forms import render

    outputs = [{"id": str(i), "prompt": text, "output": text, "target": text} for i, text in enumerate(HOSTILE)]
    page = render("finance", "0" * 16, 1, outputs)
    assert page.count("<script>") == 1
    assert "<img" not in page and "<svg" not in page and "\u202e" not in page
    assert html.escape(HOSTILE[0], quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page


def test_alpha_is_that_of_the_published_example():
    """Krippendorff 2011, 'Computing Krippendorff's Alpha-Reliability', example C: four observers, twelve units."""
    table = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    assert ratings.alpha(np.array(table, float)) == pytest.approx(0.815, abs=5e-4)


def test_alpha_is_not_made_up_where_there_is_none():
    assert ratings.alpha(np.full((3, 5), 4.0)) is None  # nobody ever disagreed nor differed
    assert ratings.alpha(np.array([[1.0, math.nan], [math.nan, 2.0]])) is None
    assert ratings.agreement(pd.DataFrame(columns=["annotator", "id", "scale", "value"]), ["1"]) == dict.fromkeys(SCALES)


def test_means_intervals_and_changes(exported, tmp_path):
    out, _ = exported

    def rate(annotator, one, scale):
        return (2 if "base" in one["rows"] else 4) + (scale == "fluency" and annotator == 3)

    found = import_ratings("finance", filled(out, tmp_path, rate), out=str(out))
    base = found["rows"]["base"]
    assert base["correctness"]["value"] == 2
    assert base["correctness"]["low"] == base["correctness"]["high"] == 2
    assert base["fluency"]["value"] == pytest.approx(2 + 1 / 3)
    assert base["overall"]["value"] == pytest.approx(2 + 1 / 12)
    assert base["change"]["overall"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": base["overall"]["n"]}
    sft = found["rows"]["sft"]
    assert 2 < sft["correctness"]["value"] < 4
    assert sft["correctness"]["low"] < sft["correctness"]["value"] < sft["correctness"]["high"]
    assert found["agreement"]["correctness"] == 1.0
    assert found["agreement"]["fluency"] < 1.0
    one_t = ratings.mean_over_clusters(
        pd.Series([1.0, 2.0, 4.0], index=pd.MultiIndex.from_tuples([("a", 1), ("b", 1), ("b", 2)]))
    )
    assert one_t["value"] == 2.0  # of 1 and the mean of 2 and 4
    assert one_t["high"] == pytest.approx(2.0 + 12.706 * 1.0, abs=1e-3)
    assert one_t["n"] == 3


@pytest.mark.usefixtures("unrendered")
def test_ratings_are_a_column_of_the_table_and_a_section(exported, tmp_path):
    out, _ = exported
    import_ratings("finance", filled(out, tmp_path, lambda n, one, scale: 1 + (n + len(one["output"])) % 5), out=str(out))
    written = write_report(out / "finance", RunStore(out / "runs"), reps=200)
    table = {line["row"]: line for line in csv.DictReader((out / "finance" / "table.csv").read_text().splitlines())}
    stored = read_json(out / "finance" / "people.json")["rows"]
    assert float(table["sft"]["people overall"]) == pytest.approx(stored["sft"]["overall"]["value"])
    assert float(table["sft"]["people fluency low"]) == pytest.approx(stored["sft"]["fluency"]["low"])
    assert table["ewc"]["people overall"] == ""
    assert "people (1-5)" in (out / "finance" / "table.md").read_text()
    page = (written.folder / "report.html").read_text()
    assert "Krippendorff" in page and 'id="people"' in page


def test_a_comparison_nobody_judged_has_neither(report):
    assert "people" not in (report.folder / "table.csv").read_text()
    assert "Krippendorff" not in (report.folder / "report.html").read_text()


def test_all_that_is_wrong_with_saved_forms_is_said(exported, tmp_path):
    out, _ = exported
    good = filled(out, tmp_path, lambda *_: 3)
    first = json.loads(Path(good[0]).read_text())
    wrong = {
        "six.json": first | {"annotator": "6", "ratings": {one: {"fluency": 6} for one in list(first["ratings"])[:1]}},
        "other.json": first | {"form": "0123456789abcdef"},
        "strange.json": first | {"annotator": "7", "ratings": {"nothing": {"fluency": 1}}},
        "list.json": [1, 2],
        "path.json": first | {"form": "../../comparison"},
    }
    for name, value in wrong.items():
        (tmp_path / name).write_text(json.dumps(value))
    files = [good[0], good[0], *(str(tmp_path / name) for name in wrong), str(tmp_path / "missing.json")]
    with pytest.raises(PlanError) as error:
        import_ratings("finance", files, out=str(out))
    text = "\n".join(error.value.faults)
    assert len(error.value.faults) == 7
    for part in (
        "whole numbers from 1 to 5",
        "never exported",
        "does not have",
        "no saved form",
        "another file has too",
        "not exist",
    ):
        assert part in text


def test_too_few_items_are_refused(tmp_path):
    with pytest.raises(PlanError, match="annotators must be at least 1"):
        export_forms("finance", str(tmp_path), annotators=0, items=10, out=str(tmp_path))


PROBE = """<!doctype html><title>probe</title><pre id=out></pre><iframe id=f src="{form}" width="800" height="800"></iframe>
<script>document.getElementById("f").onload = (e) => {{
 const d = e.target.contentDocument;
 const at = (box) => [...d.querySelectorAll("article")].indexOf(box.closest("article"));
 for (const box of d.querySelectorAll("input")) if (Number(box.value) === 1 + at(box) % 5) box.click();
 let saved = "";
 e.target.contentWindow.HTMLAnchorElement.prototype.click = function () {{ saved = this.download; }};
 d.getElementById("save").click();
 const found = {{saved, title: d.title, images: d.images.length, text: d.getElementById("result").value,
  progress: d.getElementById("progress").textContent, shown: d.body.textContent.includes("<script>document.title=")}};
 document.getElementById("out").textContent = JSON.stringify(found);
}}</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_form_is_filled_in_and_saved_in_chromium(exported, tmp_path):
    from harness.commands.annotate.forms import render

    out, _ = exported
    key = key_of_form(out)
    outputs = [one | {"output": HOSTILE[0]} if place == 0 else one for place, one in enumerate(key["outputs"])]
    (tmp_path / "form.html").write_text(render("finance", key["form"], 1, outputs))
    (tmp_path / "probe.html").write_text(PROBE.format(form="form.html"))
    done = subprocess.run(
        [str(BROWSER), *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000", "--dump-dom",
         (tmp_path / "probe.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = json.loads(html.unescape(re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)[1]))  # type: ignore[index]
    assert found["title"] == "finance: form 1"
    assert found["shown"] and found["images"] == 0
    assert found["progress"] == f"{4 * len(outputs)} of {4 * len(outputs)} given"
    assert found["saved"] == f"ratings-{key['form']}-1.json"
    (tmp_path / "saved.json").write_text(found["text"])
    rows = import_ratings("finance", [str(tmp_path / "saved.json")], out=str(out))["ratings"]["1"]
    assert {id_: scales["fluency"] for id_, scales in rows.items()} == {
        one["id"]: 1 + place % 5 for place, one in enumerate(outputs)
    }
