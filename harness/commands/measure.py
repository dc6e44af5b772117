"""`lethe measure`: models that others tuned, against their base, by the evaluation and the statistics of every comparison."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.commands.faults import say
from harness.doing import doing, spoken
from harness.errors import PlanError
from harness.gate.announce import junit as junit_report
from harness.gate.announce import show as show_verdict
from harness.gate.announce import step_summary
from harness.gate.measured import judge_measured
from harness.gate.verdict import Verdict
from harness.plan.load import make_plan
from harness.plan.measured import plan_options
from harness.store.files import place, write_atomic


def measure(
    base: str,
    tuned: Sequence[str],
    plan: str | None = None,
    gate: bool = False,
    junit: str | None = None,
    json: bool = False,
    **options: Any,
) -> int:
    """Measure, report, and with `gate` judge; return the exit code. `options`: of the plan, those that train nothing."""
    if junit and not gate:
        raise PlanError("--junit writes the verdict of the gate: give --gate too")
    requested = make_plan(plan_options(base, tuned, options), plan)
    with spoken(quiet=json):
        doing("loading torch, transformers and lm-eval")
        from harness.commands.compare import run
        from harness.report.tables.main_table import records
        from harness.report.verdict.terminal import show

        outcome = run(requested, quiet=json)
    summary = outcome.report.summary
    verdict = judge_measured(summary) if gate else None
    if json:
        print(records(outcome.report.table), end="")
    else:
        show(summary)
        print(f"report: {outcome.folder / 'report.html'}\nfor a model card: {outcome.folder / 'card.md'}")

    # What failed is named on the error stream, so that JSON stays JSON.
    say(1, outcome.failed)
    if verdict is None:
        return 1 if outcome.failed else 0
    _announce(verdict, junit, quiet=json)
    return verdict.exit_code


def _announce(verdict: Verdict, junit: str | None, quiet: bool) -> None:
    """Say the verdict in the terminal, to JUnit's readers, and in GitHub's summary of the step."""
    if not quiet:
        show_verdict(verdict)
    if junit:
        write_atomic(place(junit), junit_report(verdict))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as stream:
            stream.write(step_summary(verdict))
