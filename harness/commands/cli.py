"""The `lethe` command: from its arguments to the module that does the work.

Exit codes: 0 all is well · 1 a run did not end well, the rest is reported · 2 what was asked cannot be done · 130 interrupted.
`lethe check` and `lethe measure --gate`:
0 pass · 1 error · 2 regression · 3 what was asked cannot be done · 4 inconclusive · 5 changed.
`lethe recipes --check`: 1 a law does not hold.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.commands.faults import handled, say
from harness.commands.parsing.parser import make_parser
from harness.interruption import end_soon_after_interrupts, leave

LOADING = "loading torch, transformers and lm-eval"

Options = Mapping[str, Any]
"""The options of one command as they were parsed, by name."""


def main(arguments: list[str] | None = None) -> int:
    """Run one `lethe` command and return its exit code; what goes wrong becomes a sentence (harness/commands/faults.py)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        gate = arguments[:1] == ["check"] or (arguments[:1] == ["measure"] and "--gate" in arguments)
        return handled(lambda: _run(arguments), misused=3 if gate else 2)
    except SystemExit as error:  # argparse has printed its help
        return int(error.code or 0)


def _run(arguments: list[str]) -> int:
    options = vars(make_parser().parse_args(arguments))
    command = options.pop("command")
    options.pop("print_completion")  # shtab's action has ended the process where it was asked for

    # Libraries that print of their own would write over the progress.
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return COMMANDS[command](options)


def _without_action(options: Options) -> Options:
    """Return the options of the part of a command that `action` names."""
    return {name: value for name, value in options.items() if name != "action"}


def _data(options: Options) -> int:
    from harness.commands import data as datatools

    getattr(datatools, options["action"])(**_without_action(options))
    return 0


def _compare(options: Options) -> int:
    from harness.commands.unchanged import remember, unchanged
    from harness.doing import doing, spoken
    from harness.plan.load import make_plan

    plan = make_plan({key: value for key, value in options.items() if key != "plan"}, options["plan"])
    begun = time.time()

    # Nothing is imported where everything has been made already: that takes seconds.
    if made := unchanged(plan):
        print(made.shown, end="")
        print(f"nothing has changed since this was made, so nothing was run\nreport: {made.folder / 'report.html'}")
        return 0
    with spoken():
        doing(LOADING)
        from harness.commands.compare import run
        from harness.report.verdict.terminal import show, shown

        outcome = run(plan)
    show(outcome.report.summary)
    if not outcome.failed and outcome.report.files:
        remember(plan, outcome.folder, shown(outcome.report.summary), begun)
    say(1, outcome.failed)
    print(_place(outcome.report))
    return 1 if outcome.failed else 0


def _place(report: Any) -> str:
    """Return a line that says where a report was written, or why it was not."""
    if report.files:
        return f"report: {report.folder / 'report.html'}"
    return f"no report was written: {report.folder.parent} may only be read; copy it to a folder of your own for one"


def _plan(options: Options) -> int:
    from harness.doing import doing, spoken
    from harness.plan.load import make_plan

    plan = make_plan({key: value for key, value in options.items() if key != "plan"}, options["plan"])
    with spoken():
        doing(LOADING)
        from harness.commands.plan import print_cost

        print_cost(plan)
    return 0


def _recipes(options: Options) -> int:
    if options["check"]:
        from harness.runs.laws import check_laws

        return check_laws(options["check"])
    from harness.recipes.catalogue import show_catalogue

    show_catalogue()
    return 0


def _report(options: Options) -> int:
    from harness.store.results import may_only_be_read, open_results

    results, name = open_results(options["out"]), options["name"]
    results.record(name)  # refused before the report's libraries are imported

    from harness.report.verdict.terminal import show
    from harness.report.write import read_report, write_report

    folder = results.folder(name)
    try:
        with results.recording():
            report = write_report(folder, results.store)
    except OSError as error:
        if not may_only_be_read(error):
            raise
        # What may only be read is read. Where that was refused, it is refused again here, in a sentence.
        report = read_report(folder, results.store)
    show(report.summary)
    print(_place(report))
    return 0


def _verify(options: Options) -> int:
    from harness.report.verify import verify
    from harness.store.results import open_results

    verified = verify(open_results(options["out"]))
    for line in verified.lines():
        print(line)
    return 1 if verified.faults else 0


def _annotate(options: Options) -> int:
    from harness.commands.annotate.forms import export_forms
    from harness.commands.annotate.ratings import import_ratings

    if options["action"] == "export":
        for file in export_forms(**_without_action(options)):
            print(file)
        return 0
    for scale, alpha in import_ratings(**_without_action(options))["agreement"].items():
        print(f"agreement on {scale}: " + ("not defined" if alpha is None else f"{alpha:.3f} (Krippendorff's alpha)"))
    return _report({"name": options["name"], "out": options["out"]})


def _check(options: Options) -> int:
    from harness.commands.check import check

    return check(**options)


def _measure(options: Options) -> int:
    from harness.commands.measure import measure

    return measure(**options)


def _diff(options: Options) -> int:
    from harness.diff.diff import diff
    from harness.diff.lm_eval_run import read_both
    from harness.diff.shown import as_json, show, write

    result = diff(*read_both(options["a"], options["b"]))
    if options["json"]:
        print(as_json(result), end="")
    else:
        show(result)

    # With --json the standard output is the JSON alone, so that a script can read it.
    for file in write(result, options["to"]) if options["to"] else []:
        print(file, file=sys.stderr if options["json"] else sys.stdout)
    return 0


def _repair(options: Options) -> int:
    from harness.repair.checkpoint import repair

    print(repair(**options))
    return 0


def _export(options: Options) -> int:
    from harness.store.results import open_results

    open_results(options["out"]).record(options["name"])  # refused before torch is imported

    from harness.commands.export import export

    print(export(**options))
    return 0


def _reproduce(options: Options) -> int:
    from harness.commands.reproduce import reproduce

    return reproduce(**options)


def _publish(options: Options) -> int:
    from harness.report.hub import publish_to_hub, repository_of
    from harness.report.site import publish

    repository = repository_of(options["to"])
    if repository is not None:
        print(f"site: {publish_to_hub(options['folders'], repository)}")
    else:
        print(f"site: {publish(options['folders'], Path(options['to']))}")
    return 0


def _merge(options: Options) -> int:
    from harness.commands.merge import merge

    for line in merge(options["folders"], options["to"]):
        print(line)
    return 0


COMMANDS = {
    "annotate": _annotate,
    "check": _check,
    "compare": _compare,
    "data": _data,
    "diff": _diff,
    "export": _export,
    "measure": _measure,
    "repair": _repair,
    "merge": _merge,
    "plan": _plan,
    "publish": _publish,
    "recipes": _recipes,
    "report": _report,
    "reproduce": _reproduce,
    "verify": _verify,
}

if __name__ == "__main__":
    end_soon_after_interrupts()
    sys.exit(leave(main()))
