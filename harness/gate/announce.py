"""A verdict written for people (rich), for readers of JUnit (XML) and for GitHub's step summary (Markdown)."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.gate.baseline import Acceptance
from harness.gate.judge import Finding
from harness.gate.verdict import ORDER, Verdict
from harness.store.files import is_local, place, write_atomic
from harness.store.opening import check_target
from harness.visible import visible

HEADLINES = ("general", "domain", "kl_to_base/general")
"""Shown for every row, whatever became of them."""
SAID = {
    "pass": "Pass: nothing is worse than {against} beyond its tolerance.",
    "changed": "Changed: nothing is worse beyond its tolerance, but an unchanged tree reads exactly 0 here.",
    "regression": "Regression: worse than {against}, or something of it is missing or is not what was asked.",
    "inconclusive": "Inconclusive: something looks worse and there are too few items to tell, or better than can be believed.",
    "error": "Error: a run did not end, so the check could not be made.",
}
MARK = {"pass": "ok", "changed": "CHANGED", "regression": "WORSE", "inconclusive": "OPEN", "error": "ERROR"}
MOST_CHANGED = 10
"""Changed metrics that are listed, the largest first; the others are counted."""


def check_report(report: str | None) -> None:
    """Refuse a file for JUnit's readers that cannot be written, before anything is measured."""
    if report and is_local(path := place(report)):
        check_target(path, f"junit '{report}'")


def announce(verdict: Verdict, report: str | None, quiet: bool = False) -> None:
    """Print a verdict, write it for JUnit's readers to the file `report`, and add it to GitHub's summary of the step.

    `quiet` prints nothing: what is written stays.
    """
    if not quiet:
        show(verdict)
    if report:
        write_atomic(place(report), junit(verdict))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as stream:
            stream.write(step_summary(verdict))


def show(verdict: Verdict, console: Console | None = None) -> None:
    """Print the verdict and what it rests on. Nothing is said by colour alone."""
    console = console or Console()
    console.print(Text(sentence(verdict), style="bold"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "row", "metric", "change", "interval", "tolerance"):
        table.add_column(name, justify="right" if name in ("change", "tolerance") else "left")
    for finding in shown(verdict):
        cells = (MARK[finding.outcome], finding.row, finding.metric, *_numbers(finding))
        table.add_row(*(Text(visible(cell)) for cell in cells), style="" if finding.outcome == "pass" else "bold")
    console.print(table)
    for finding in without_numbers(verdict):
        text = f"{MARK[finding.outcome]} {finding.row}, {finding.metric}: {finding.sentence}"
        console.print(Text(visible(text, None)))
    console.print(counted(verdict))
    for note in verdict.notes:
        console.print(Text(f"note: {visible(note, None)}", style="dim"))


def sentence(verdict: Verdict) -> str:
    """Return what came out, in one sentence."""
    return SAID[verdict.outcome].format(against=verdict.against)


def show_acceptance(acceptance: Acceptance, console: Console | None = None) -> None:
    """Print the noise floors of a baseline and its faults."""
    console = console or Console()
    # The largest floors first: these decide whether a check on another machine can tell anything.
    floors = sorted(acceptance.floors.items(), key=lambda pair: -pair[1])
    listed = ", ".join(f"{visible(metric)} {floor:.1f}" for metric, floor in floors)
    console.print(Text(f"noise floors in points, for checks on other machines: {listed}"))
    for error in acceptance.errors:
        console.print(Text(f"ERROR of the baseline: {visible(error, None)}", style="bold"))
    for warning in acceptance.warnings:
        console.print(Text(f"warning: {visible(warning, None)}"))


def shown(verdict: Verdict) -> list[Finding]:
    """Return the findings of the table: what does not pass, worst first, then the headlines.

    Of metrics that only changed, the largest changes.
    """
    # The headlines are shown whatever became of them, so that a pass shows its numbers too.
    listed = []
    changed = []
    for finding in verdict.findings:
        if not finding.change.known:
            continue
        if finding.metric in HEADLINES or finding.outcome not in ("pass", "changed"):
            listed.append(finding)
        elif finding.outcome == "changed":
            changed.append(finding)
    changed.sort(key=lambda finding: -abs(finding.change.value))
    return sorted(listed + changed[:MOST_CHANGED], key=lambda finding: ORDER.index(finding.outcome))


def without_numbers(verdict: Verdict) -> list[Finding]:
    """Return what does not pass and has no number: it is shown as a sentence."""
    return [finding for finding in verdict.findings if not finding.change.known and finding.outcome != "pass"]


def counted(verdict: Verdict) -> str:
    """Return how many metrics had each outcome, and for how many passes a loss beyond the tolerance is not excluded."""
    parts = [f"{verdict.count(outcome)} {outcome}" for outcome in ORDER if verdict.count(outcome)]
    sentence = f"{len(verdict.findings)} metrics: {', '.join(parts)}."

    # A pass is no proof: the reader must see for how many metrics a loss stays possible.
    wide = 0
    for finding in verdict.findings:
        wide += finding.outcome in ("pass", "changed") and finding.reach > finding.tolerance
    if wide:
        sentence += f" Of {wide} that do not fail the interval reaches beyond the tolerance: more items would tell more."
    return sentence


def _numbers(finding: Finding) -> tuple[str, str, str]:
    """Return change, interval and tolerance as text."""
    change = finding.change
    return f"{change.value:+z.2f}", f"[{change.low:+z.2f}, {change.high:+z.2f}]", f"{finding.tolerance:.2f}"


def junit(verdict: Verdict) -> str:
    """Return JUnit's XML: one suite, with a case per row and metric.

    Inconclusive and changed cases are `skipped`, which readers show apart from passes and failures.
    """
    # JUnit knows no open outcome: what is undecided counts as skipped, so that CI shows it.
    counts = {"failures": ("regression",), "errors": ("error",), "skipped": ("inconclusive", "changed")}
    attributes = {name: str(sum(map(verdict.count, outcomes))) for name, outcomes in counts.items()}
    suite = ElementTree.Element("testsuite", {"name": verdict.command, "tests": str(len(verdict.findings)), **attributes})
    tags = {"regression": "failure", "error": "error", "inconclusive": "skipped", "changed": "skipped"}
    for finding in verdict.findings:
        case = ElementTree.SubElement(suite, "testcase", classname=visible(finding.row), name=visible(finding.metric))
        if finding.outcome in tags:
            ElementTree.SubElement(case, tags[finding.outcome], message=visible(finding.sentence))
    whole = ElementTree.Element("testsuites")
    whole.append(suite)
    ElementTree.indent(whole)
    return ElementTree.tostring(whole, encoding="unicode", xml_declaration=True) + "\n"


def step_summary(verdict: Verdict) -> str:
    """Return Markdown for $GITHUB_STEP_SUMMARY."""
    lines = [
        f"### Lethe: {sentence(verdict)}",
        "",
        "| | row | metric | change | 95 % interval | tolerance |",
        "|---|---|---|---|---|---|",
    ]
    for finding in shown(verdict):
        cells = (MARK[finding.outcome], finding.row, finding.metric, *_numbers(finding))
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    lines.append("")
    for finding in without_numbers(verdict):
        name = f"**{_cell(finding.row)}**, {_cell(finding.metric)}"
        lines.append(f"- {MARK[finding.outcome]} {name}: {_cell(finding.sentence)}")
    notes = [f"- {_cell(note)}" for note in verdict.notes]
    return "\n".join([*lines, "", counted(verdict), "", *notes]) + "\n"


def _cell(text: str) -> str:
    """Return text that Markdown shows as it is."""
    plain = visible(text).replace("\n", " ")
    for letter in "\\`*_[]|":
        plain = plain.replace(letter, "\\" + letter)
    return plain.replace("<", "&lt;")
