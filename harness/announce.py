"""A verdict said to people (rich), to JUnit's readers (XML) and to GitHub's step summary (Markdown)."""

from __future__ import annotations

from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.check import ORDER, Finding, Verdict
from harness.report.format import visible

HEADLINES = ("general", "domain", "kl_to_base/general")
"""Shown for every row, whatever became of them."""
SAID = {
    "pass": "Pass: nothing is worse than the baseline beyond its tolerance.",
    "regression": "Regression: worse than the baseline, or something of it is missing.",
    "inconclusive": "Inconclusive: something looks worse, and there are too few items to tell.",
    "error": "Error: a run did not end, so the check could not be made.",
}
MARK = {"pass": "ok", "regression": "WORSE", "inconclusive": "OPEN", "error": "ERROR"}


def show(verdict: Verdict, console: Console | None = None) -> None:
    """Print the verdict and what it rests on; words carry all that colours do."""
    console = console or Console()
    console.print(Text(SAID[verdict.outcome], style="bold"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "row", "metric", "change", "interval", "tolerance"):
        table.add_column(name, justify="right" if name in ("change", "tolerance") else "left")
    for finding in shown(verdict):
        cells = (MARK[finding.outcome], finding.row, finding.metric, *_numbers(finding))
        table.add_row(*(Text(visible(cell)) for cell in cells), style="" if finding.outcome == "pass" else "bold")
    console.print(table)
    for finding in verdict.findings:
        if not finding.change.known:
            console.print(Text(f"! {visible(finding.row)}, {visible(finding.metric)}: {visible(finding.sentence)}"))
    console.print(counted(verdict))
    for note in verdict.notes:
        console.print(Text(f"differs from the baseline: {visible(note)}", style="dim"))


def shown(verdict: Verdict) -> list[Finding]:
    """What does not pass, worst first, then the headlines."""
    wanted = [one for one in verdict.findings if one.change.known and (one.outcome != "pass" or one.metric in HEADLINES)]
    return sorted(wanted, key=lambda one: ORDER.index(one.outcome))


def counted(verdict: Verdict) -> str:
    """How many of what; and of how many passes a loss beyond the tolerance is not excluded."""
    parts = [f"{verdict.count(outcome)} {outcome}" for outcome in ORDER if verdict.count(outcome)]
    wide = sum(one.outcome == "pass" and one.reach > one.tolerance for one in verdict.findings)
    open_ = f" Of {wide} passes the interval reaches beyond the tolerance: more items would tell more." if wide else ""
    return f"{len(verdict.findings)} metrics: {', '.join(parts)}.{open_}"


def _numbers(finding: Finding) -> tuple[str, str, str]:
    change = finding.change
    return f"{change.value:+z.2f}", f"[{change.low:+z.2f}, {change.high:+z.2f}]", f"{finding.tolerance:.2f}"


def junit(verdict: Verdict) -> str:
    """JUnit's XML: a suite, a case each row and metric. What is inconclusive is skipped, which most readers show apart."""
    counts = {"failures": "regression", "errors": "error", "skipped": "inconclusive"}
    attributes = {name: str(verdict.count(outcome)) for name, outcome in counts.items()}
    suite = ElementTree.Element("testsuite", {"name": "lethe check", "tests": str(len(verdict.findings)), **attributes})
    tags = {"regression": "failure", "error": "error", "inconclusive": "skipped"}
    for finding in verdict.findings:
        case = ElementTree.SubElement(suite, "testcase", classname=visible(finding.row), name=visible(finding.metric))
        if finding.outcome in tags:
            ElementTree.SubElement(case, tags[finding.outcome], message=visible(finding.sentence))
    whole = ElementTree.Element("testsuites")
    whole.append(suite)
    ElementTree.indent(whole)
    return ElementTree.tostring(whole, encoding="unicode", xml_declaration=True) + "\n"


def step_summary(verdict: Verdict) -> str:
    """Markdown for $GITHUB_STEP_SUMMARY."""
    lines = [
        f"### Lethe: {SAID[verdict.outcome]}",
        "",
        "| | row | metric | change | 95 % interval | tolerance |",
        "|---|---|---|---|---|---|",
    ]
    for finding in shown(verdict):
        cells = (MARK[finding.outcome], finding.row, finding.metric, *_numbers(finding))
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    said = [
        f"- **{_cell(one.row)}**, {_cell(one.metric)}: {_cell(one.sentence)}"
        for one in verdict.findings
        if not one.change.known
    ]
    notes = [f"- differs from the baseline: {_cell(note)}" for note in verdict.notes]
    return "\n".join([*lines, "", *said, "", counted(verdict), "", *notes]) + "\n"


def _cell(text: str) -> str:
    """Text that Markdown leaves as it is."""
    plain = visible(text).replace("\n", " ")
    for letter in "\\`*_[]|":
        plain = plain.replace(letter, "\\" + letter)
    return plain.replace("<", "&lt;")
