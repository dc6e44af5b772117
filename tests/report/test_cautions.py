"""Warnings: each rule says its fault where it is planted, and nothing where it is not."""

from __future__ import annotations

import dataclasses
import io

import pandas as pd
import pytest
from fake_store import ROWS
from rich.console import Console

from harness.files.records import Record
from harness.files.turns import Turn
from harness.plan.settings import default_rate
from harness.report.tables.main_table import full_table
from harness.report.verdict.cautions import COUNTED, cautions, warnings
from harness.report.verdict.model_card import card
from harness.report.verdict.terminal import show
from harness.report.write import write_report
from harness.tokens.chat_template import ChatTemplate
from harness.vocabulary import Role

FEW = {name: ROWS[name] for name in ("base", "sft", "mix+lora")}


@pytest.fixture
def summary(summary_of):
    return summary_of(rows=FEW)


def level(summary, metric: str, **levels: float) -> None:
    """Plant a level of a metric on general prompts: estimate and draws."""
    analysis = summary.analysis
    for row, value in levels.items():
        place = analysis.rows.index(row)
        for source in (analysis.point, analysis.replicates, analysis.by_seed):
            source[f"level:{metric}:general"][..., place] = value
    summary.estimates.clear()


def about(summary, word: str) -> list[str]:
    return [text for text in warnings(summary) if word in text]


def test_collapse_into_loops_is_said_aloud(summary):
    """The Chinese legal case: rep-3 from 0.59 to 0.98, while the table said that all was kept."""
    assert not about(summary, "Collapse")
    level(summary, "rep3_word", base=0.59, sft=0.98)
    (text,) = about(summary, "repeat themselves")
    assert (
        text == "Collapse: answers to general prompts repeat themselves (share of repeated 3-grams): sft 0.980; the base 0.590."
    )
    assert cautions(summary)[0].rows == ("sft",)


def test_a_base_that_repeats_itself_as_much_is_no_collapse(summary):
    level(summary, "rep3_word", base=0.95, sft=0.98)
    assert not about(summary, "Collapse")


def test_answers_without_a_stop_are_said_aloud(summary):
    level(summary, "no_stop", base=0.02, sft=1.0, **{"mix+lora": 0.25})
    (text,) = about(summary, "without a stop")
    assert "sft > 99.9 %, mix+lora 25.0 %; the base 2.0 %" in text


def test_empty_answers_are_said_aloud(summary):
    scores = summary.scores
    part = scores[scores["metric"] == "no_stop"].assign(metric="length_tokens", score=5.0)
    part.loc[(part["row"] == "sft") & (part["group"] == "domain"), "score"] = 0.0
    planted = dataclasses.replace(summary, scores=pd.concat([scores, part]))
    (text,) = about(planted, "are empty")
    assert text.startswith("Collapse: answers to domain prompts are empty (share of answers): sft > 99.9 %")


def test_kept_that_hides_a_loss_is_said_aloud(summary):
    """Four families fall, a weak fifth rises: kept read 117 % beside a change of -17.6 points."""
    place = summary.analysis.rows.index("sft")
    for source in (summary.analysis.point, summary.analysis.replicates, summary.analysis.by_seed):
        source["retention"][..., place] = 117.0
    summary.estimates.clear()
    (text,) = about(summary, "believe the points")
    assert text.startswith("sft: kept reads 117 % [117, 117] while the general score changed by −")


def test_cut_prompts_and_lost_answers_are_said_aloud(summary):
    long = "59 of 100 domain records had prompts too long for 256 tokens: cut from the left (at most 90 lost)."
    few = "facts: 1 of 200 prompts are longer than the model's context and lose their beginning."
    lost = "4 of 1,000 domain answers do not come back from their tokens, as 'é': no model can say them."
    summary.record["notes"], summary.record["data"]["notes"] = [long, few], [lost, "12 of 4,000 records are copies."]
    assert about(summary, "Not whole") == [f"Not whole, 59.0 %: {long}", f"Not whole, 0.4 %: {lost}"]


def test_what_encoding_notes_is_what_the_warning_reads(base):
    """The words of the real notes: where they change, prompts that were cut would pass in silence."""
    template = ChatTemplate(base.tokenizer)
    records = [Record("r", (Turn("user", "why " * 200), Turn("assistant", answer)), "x") for answer in ("yes", "no " * 200)]
    template.encode_all(records, max_length=32)
    found = [phrase for phrase in COUNTED if any(phrase in note for note in template.notes)]
    assert found == ["prompts too long for", "their ends were cut"]


def test_contaminated_items_that_are_kept_are_said_aloud(summary):
    one = {"task": "facts", "items": 200, "places": {"domain": [1, 2, 3], "general": [3, 4]}, "excluded": 4}
    summary.record["contamination"] = {"found": [one]}
    assert not about(summary, "stands in training data")
    one["excluded"] = 0
    assert about(summary, "the wording of 4 of 200 items stands in training data")


def named(summary, *recipes: str, **changes):
    """The summary with recipes as rows of these texts."""
    (example,) = [row for row in summary.rows if row.name == "sft"]
    rows = [row for row in summary.rows if row.role != Role.RECIPE]
    for text in recipes:
        rows.append(dataclasses.replace(example, name=text, runs=({**example.runs[0], "recipe": text},)))
    return dataclasses.replace(summary, rows=rows, **changes)


def test_what_was_not_tuned_says_who_chose_its_settings(summary):
    (text,) = about(named(summary, "sft", "mix"), "Untuned")
    assert text == "Untuned: every recipe ran with its default settings, so a poor row may be a poor setting."

    (text,) = about(named(summary, "sft", "lora(lr=4.5e-3)", "mix(ratio=0.2)", "ewc(lr=1e-3)+lora(r=4)"), "Untuned")
    assert "at learning rates given by hand: lora(lr=4.5e-3), ewc(lr=1e-3)+lora(r=4);" in text
    assert "at other settings given by hand: mix(ratio=0.2); at default settings: sft." in text
    assert "every recipe" not in text


def test_a_rate_that_the_plan_gave_is_no_default(summary):
    model = {"name": "phantom", "parameters": 3_500_000}
    default = default_rate(3_500_000)
    for rate, said in ((default, False), (4e-5, True)):
        record = summary.record | {"model": model, "plan": summary.record["plan"] | {"learning_rate": rate}}
        (text,) = about(named(summary, "sft", record=record), "Untuned")
        assert ("every recipe ran with its default settings" in text) is not said
        assert ("plain fine-tuning's rate, 4e-05, was given by hand" in text) is said


def test_beside_tuned_recipes_those_that_were_not_are_named(summary):
    trials = pd.DataFrame({"row": ["sft", "sft"], "recipe": ["sft(lr=1e-3)", "sft(lr=2e-3)"], "selected": [True, False]})
    assert not about(named(summary, "sft", trials=trials), "Untuned")
    (caution,) = [caution for caution in cautions(named(summary, "sft", "mix(lr=1e-3, ratio=0.2)", trials=trials))
                  if "Untuned" in caution.text]  # fmt: skip
    assert caution.rows == ("mix(lr=1e-3, ratio=0.2)",) and "sft" not in caution.text


@pytest.mark.usefixtures("unrendered")
def test_the_same_warnings_stand_everywhere(summary_of, tmp_path):
    summary = summary_of(rows=FEW)
    report = write_report(tmp_path / "finance", summary.store, reps=100)
    stream = io.StringIO()
    show(report.summary, Console(file=stream, width=1000))
    page, table = ((report.folder / name).read_text() for name in ("report.html", "table.md"))
    line = full_table(report.summary).set_index("row", drop=False).loc["sft"].to_dict()
    told = card(
        summary.record | {"data": {"name": "d", "train": 1, "fingerprint": "f"}, "question": {}}, line, "", report.warnings
    )
    assert len(report.warnings) >= 3
    for text in report.warnings:
        assert text in stream.getvalue() and text in table and text in told and text in page
