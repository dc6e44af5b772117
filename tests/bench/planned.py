"""`python -m tests.bench.planned [--out FOLDER] [OPTION=VALUE ...]`: what `lethe plan` says beside what the runs took.

The comparison must have run (`lethe compare`) with the same options; nothing runs here but the plan. Training is the ledger's
time. Evaluation is what the run says of its curve and, since the store does not say how long the finished model was scored,
the time from the end of training to the last file of scores.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import datetime

from harness.commands.compare import prepare
from harness.commands.plan import costs_of
from harness.plan.load import make_plan
from harness.setup.specs import run_specs
from harness.store.results import open_results
from harness.store.runs import RunFolder


@dataclass(frozen=True)
class Took:
    """What one run took."""

    training: float
    """Seconds."""
    evaluation: float
    """Seconds."""
    memory: float
    """Bytes at the peak."""


def took(folder: RunFolder) -> Took:
    """Return what a finished run took."""
    happened = folder.read("run")["happened"]
    ended = datetime.fromisoformat(happened["ended"]).timestamp()
    scored = max(path.stat().st_mtime for path in (folder.path / "evals").iterdir())
    evaluation = happened["evaluation_seconds"] + scored - ended
    return Took(folder.read("ledger")["seconds"], evaluation, happened["peak_memory_bytes"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="results")
    parser.add_argument("options", nargs="*", default=["data=finance.json"], metavar="OPTION=VALUE")
    arguments = parser.parse_args()
    options = dict(option.split("=", 1) for option in arguments.options)
    material, evaluation, allowed = prepare(make_plan(options | {"out": arguments.out}), keep=True)
    specs = run_specs(material, allowed)
    costs, _ = costs_of(material, evaluation, specs)

    # Planned / taken, for each run and for all of them.
    store = open_results(arguments.out).store
    print("| run | training, s | evaluation, s | GB |\n|---|---|---|---|")
    planned = taken = 0.0
    for spec, cost in zip(specs, costs, strict=True):
        actual = took(store.run(spec.key))
        scoring = cost.scoring or 0.0
        pairs = ((cost.seconds, actual.training), (scoring, actual.evaluation), (cost.memory / 1e9, actual.memory / 1e9))
        print(f"| {spec.row} | {' | '.join(f'{said:.3g} / {was:.3g}' for said, was in pairs)} |")
        planned += cost.all_seconds
        taken += actual.training + actual.evaluation
    print(f"\nall runs: {planned:.0f} s planned, {taken:.0f} s taken ({planned / taken - 1:+.0%})")


if __name__ == "__main__":
    main()
