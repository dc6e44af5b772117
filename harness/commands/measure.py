"""`lethe measure`: models that others tuned, against their base, by the evaluation and the statistics of every comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.commands.faults import say
from harness.doing import doing, spoken
from harness.errors import PlanError
from harness.gate.announce import announce, check_report
from harness.gate.measured import judge_measured
from harness.plan.load import make_plan
from harness.plan.measured import plan_options


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
    check_report(junit)
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
    announce(verdict, junit, quiet=json)
    return verdict.exit_code
