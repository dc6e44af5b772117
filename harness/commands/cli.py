"""The `lethe` command: argument parsing, nothing else.

Exit codes: 0 all is well · 1 a run did not end well, the rest is reported · 2 what was asked cannot be done · 130 interrupted.
`lethe check` and `lethe measure --gate`:
0 pass · 1 error · 2 regression · 3 what was asked cannot be done · 4 inconclusive · 5 changed.
`lethe recipes --check`: 1 a law does not hold.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import shtab

from harness.commands.faults import handled
from harness.errors import PlanError
from harness.plan.load import MEASURING, add_flags
from harness.plan.plan import Plan

LOADING = "loading torch, transformers and lm-eval"


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one sentence, where argparse would print every option first."""

    def error(self, message: str) -> NoReturn:
        # A misspelt option is the commonest mistake: the close one is named.
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        options: list[str] = []
        for action in self._options():
            options += action.option_strings
        near = difflib.get_close_matches(unknown[1], options, 1) if unknown else []
        hint = f"did you mean {near[0]}?" if near else f"`{self.prog} --help` says what there is"
        raise PlanError(f"{message}; {hint}")

    def _options(self) -> list[argparse.Action]:
        """Return the options of this command and of the commands below it."""
        options = list(self._actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    options += parser._actions
        return options


def main(arguments: list[str] | None = None) -> int:
    """Run one `lethe` command and return its exit code; what goes wrong becomes a sentence (harness/commands/faults.py)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        gate = arguments[:1] == ["check"] or (arguments[:1] == ["measure"] and "--gate" in arguments)
        return handled(lambda: _run(arguments), misused=3 if gate else 2)
    except SystemExit as error:  # argparse has printed its help
        return int(error.code or 0)


def _run(arguments: list[str]) -> int:
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    options.pop("print_completion")  # shtab's action has ended the process where it was asked for

    # Libraries that print of their own would write over the progress.
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return COMMANDS[command](options)


class _Version(argparse.Action):
    """Print the versions that a bug report needs, without importing torch."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None):
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        import lethe
        from harness.store.provenance import versions
        from harness.store.schema import PROTOCOL

        print(f"lethe {lethe.__version__} (protocol {PROTOCOL}), Python {platform.python_version()}")
        for package, version in versions().items():
            print(f"{package} {version or 'not installed'}")
        parser.exit()


CODE = "a file of a method or scorer that the record names and that may run here; may be given several times"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="lethe", description="Measure what fine-tuning makes a language model forget.")
    parser.add_argument("--version", action=_Version, help="print the versions of Lethe and of what its numbers depend on")
    shtab.add_argument_to(parser, "--print-completion", help="print a completion script for bash, zsh or tcsh")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("compare", "run a comparison and write its report"),
        ("plan", "print what would run and what it would cost"),
    ):
        command = commands.add_parser(name, help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        command.add_argument("--plan", metavar="FILE", help="TOML file with any of these options; flags win over it")
        command.add_argument("data", nargs="?", default=argparse.SUPPRESS, help="the same as --data")
        add_flags(command, [field.name for field in dataclasses.fields(Plan)])
    _add_data(commands)
    recipes = commands.add_parser("recipes", help="list the methods that recipes are made of, or hold one's own to their laws")
    recipes.add_argument(
        "--check", metavar="FILE", help="run the laws of every method on those of FILE (or FILE:Class, or a name)"
    )
    report = commands.add_parser("report", help="rebuild a comparison's report from stored runs")
    report.add_argument("name", help="name of the comparison: results/<name>")
    report.add_argument("--out", default="results", help="where results and the run store are")
    verify = commands.add_parser("verify", help="read a whole store, and say what is no longer as it was written")
    verify.add_argument("--out", default="results", help="where results and the run store are")
    _add_check(commands)
    _add_measure(commands)
    _add_diff(commands)
    _add_published(commands)
    return parser


def _add_measure(commands: Any) -> None:
    text = "measure models that others tuned against their base"
    measure = commands.add_parser("measure", help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    measure.add_argument("base", metavar="BASE", help="folder or hub id of the untuned model")
    tuned_help = "folder, hub id, adapter or run of a store; name=PLACE names the row, name=a,b are seeds of one recipe"
    measure.add_argument("tuned", metavar="TUNED", nargs="+", help=tuned_help)
    measure.add_argument("--plan", metavar="FILE", help="TOML file with any of these options; flags win over it")
    measure.add_argument("--gate", action="store_true", help="exit as `lethe check` does, by the limits of --require")
    measure.add_argument("--junit", metavar="FILE", help="with --gate: write the verdict as JUnit XML too")
    measure.add_argument("--json", action="store_true", help="print the table as JSON in place of anything else")
    add_flags(measure, MEASURING)


def _add_diff(commands: Any) -> None:
    diff = commands.add_parser("diff", help="compare two runs of lm-eval, document by document (no model is needed)")
    for name in ("a", "b"):
        text = "folder that lm-eval wrote with --output_path and --log_samples, or a results or samples file in it"
        diff.add_argument(name, metavar=name.upper(), help=text)
    diff.add_argument("--to", type=Path, metavar="DIR", help="write diff.md, diff.json and diff.html there too")
    diff.add_argument("--json", action="store_true", help="print the whole result as JSON in place of the table")


def _add_check(commands: Any) -> None:
    check = commands.add_parser("check", help="the gate for CI: measure, and compare with the accepted baseline")
    check.add_argument(
        "plan", nargs="?", help="TOML file of the check; the baseline lies beside it (default: the embedded one)"
    )
    check.add_argument("--accept", action="store_true", help="measure under several seeds and make that the baseline")
    check.add_argument("--evidence", metavar="FILE", help="judge (or accept) this stored evidence; nothing runs")
    check.add_argument("--junit", metavar="FILE", help="write the verdict as JUnit XML too")
    check.add_argument("--only", metavar="RECIPES", help="of the plan's recipes, check these")
    check.add_argument("--out", default="results", help="evidence goes to OUT/check/evidence.json")


def _add_published(commands: Any) -> None:
    """What is done with finished comparisons."""
    repair = commands.add_parser("repair", help="mend a model that was tuned elsewhere, without training")
    repair.add_argument("base", metavar="BASE", help="folder or hub id of the untuned model")
    repair.add_argument("tuned", metavar="TUNED", help="folder or hub id of the tuned checkpoint, or of a peft adapter")
    repair.add_argument(
        "--by", default="dghard", metavar="RECIPE", help="methods that act after training: wise, lines, ties ..."
    )
    repair.add_argument("--to", required=True, metavar="DIR", help="new folder for the checkpoint")
    repair.add_argument("--seed", type=int, default=0, help="of what a method draws (default: 0)")
    export = commands.add_parser("export", help="a run's model as a checkpoint for transformers, with its card")
    export.add_argument("name", help="name of the comparison: results/<name>")
    export.add_argument("--to", required=True, metavar="DIR", help="new folder for the checkpoint")
    export.add_argument("--recipe", help="row of the table; default: the one the verdict is about")
    export.add_argument("--seed", type=int, default=0, help="which of its runs (default: 0)")
    export.add_argument("--retrain", action="store_true", help="train it again, bit for bit, where its weights were not kept")
    export.add_argument("--code", action="append", default=[], metavar="FILE", help=CODE)
    export.add_argument("--out", default="results", help="folder of results and of the run store")
    reproduce = commands.add_parser("reproduce", help="run a published comparison from its record and say what differs")
    reproduce.add_argument("folder", help="results/<name>, with comparison.json and table.csv")
    reproduce.add_argument("--only", metavar="RECIPES", help="these rows of its table")
    reproduce.add_argument("--code", action="append", default=[], metavar="FILE", help=CODE)
    reproduce.add_argument("--out", default="results/reproduced", help="folder of the new runs and results")
    publish = commands.add_parser("publish", help="a static leaderboard site from any number of comparisons")
    publish.add_argument("folders", nargs="+", type=Path, help="results/<name> ...")
    publish.add_argument(
        "--to", required=True, metavar="DIR", help="folder of the site, or hub:OWNER/NAME: a static Space on the hub"
    )
    annotate = commands.add_parser("annotate", help="let people judge outputs, blind: write forms, read them back")
    actions = annotate.add_subparsers(dest="action", required=True, metavar="ACTION")
    forms = actions.add_parser("export", help="write an offline HTML form for each annotator")
    forms.add_argument("name", help="name of the comparison: results/<name>")
    forms.add_argument("--to", required=True, metavar="DIR", help="folder of the forms")
    forms.add_argument("--annotators", type=int, default=3, help="forms to write (default: 3)")
    forms.add_argument("--items", type=int, default=50, help="outputs on each, at least (default: 50)")
    filled = actions.add_parser("import", help="read the saved forms: ratings join the comparison's report")
    filled.add_argument("name", help="name of the comparison: results/<name>")
    filled.add_argument("files", nargs="+", metavar="FILE", help="what the forms' Save button wrote")
    for action in (forms, filled):
        action.add_argument("--out", default="results", help="folder of results and of the run store")
    merge = commands.add_parser("merge", help="join comparisons from several machines into one")
    merge.add_argument("folders", nargs="+", type=Path, help="A/<name> B/<name> ..., each beside its runs/")
    merge.add_argument("--to", required=True, type=Path, metavar="DIR", help="new comparison: C/<name>; its runs go to C/runs")


def _add_data(commands: Any) -> None:
    """`lethe data inspect|dedup|sort|score`."""
    data = commands.add_parser("data", help="look at training data, and clean, order or score it")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("inspect", "print lengths, losses under the base, copies, contradictions and what looks wrong"),
        ("dedup", "write the file without near-duplicates of earlier records"),
        ("sort", "write the file ordered by how hard the base finds its records"),
        ("score", "write the file with the base's scores as more fields"),
    ):
        action = actions.add_parser(name, help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        action.add_argument("source", metavar="IN", help="data file")
        if name != "inspect":
            action.add_argument("target", metavar="OUT", help="file to write, in the same form")
        action.add_argument("--model", help="hub id or folder of the base; the embedded one if not given")
        if name == "inspect":
            action.add_argument("--limit", type=int, default=20, help="lines of each list")
        elif name == "dedup":
            action.add_argument("--threshold", type=float, default=0.85, help="least Jaccard similarity of word 5-grams")
        elif name == "sort":
            action.add_argument("--order", choices=("easy", "hard", "mixed"), default="mixed", help="what comes first")
            action.add_argument("--by", choices=("loss", "similarity"), default="loss", help="measure of difficulty")
            action.add_argument("--seed", type=int, default=0, help="of the mixed order")


def _data(options: dict[str, Any]) -> int:
    from harness.commands import data as datatools

    getattr(datatools, options.pop("action"))(**options)
    return 0


def _compare(options: dict[str, Any]) -> int:
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
    if not outcome.failed:
        remember(plan, outcome.folder, shown(outcome.report.summary), begun)
    for failure in outcome.failed:
        print(f"lethe: {failure}", file=sys.stderr)
    print(f"report: {outcome.folder / 'report.html'}")
    return 1 if outcome.failed else 0


def _plan(options: dict[str, Any]) -> int:
    from harness.doing import doing, spoken
    from harness.plan.load import make_plan

    plan = make_plan({key: value for key, value in options.items() if key != "plan"}, options["plan"])
    with spoken():
        doing(LOADING)
        from harness.commands.plan import print_cost

        print_cost(plan)
    return 0


def _recipes(options: dict[str, Any]) -> int:
    if options["check"]:
        from harness.runs.laws import check_laws

        return check_laws(options["check"])
    from harness.recipes.catalogue import show_catalogue

    show_catalogue()
    return 0


def _report(options: dict[str, Any]) -> int:
    from harness.store.results import open_results

    results, name = open_results(options["out"]), options["name"]
    results.record(name)  # refused before the report's libraries are imported

    from harness.report.verdict.terminal import show
    from harness.report.write import write_report

    folder = results.folder(name)
    show(write_report(folder, results.store).summary)
    print(f"report: {folder / 'report.html'}")
    return 0


def _verify(options: dict[str, Any]) -> int:
    from harness.report.verify import verify
    from harness.store.results import open_results

    verified = verify(open_results(options["out"]))
    for line in verified.lines():
        print(line)
    return 1 if verified.faults else 0


def _annotate(options: dict[str, Any]) -> int:
    from harness.commands.annotate.forms import export_forms
    from harness.commands.annotate.ratings import import_ratings

    if options.pop("action") == "export":
        for file in export_forms(**options):
            print(file)
        return 0
    for scale, alpha in import_ratings(**options)["agreement"].items():
        print(f"agreement on {scale}: " + ("not defined" if alpha is None else f"{alpha:.3f} (Krippendorff's alpha)"))
    return _report({"name": options["name"], "out": options["out"]})


def _check(options: dict[str, Any]) -> int:
    from harness.commands.check import check

    return check(**options)


def _measure(options: dict[str, Any]) -> int:
    from harness.commands.measure import measure

    return measure(**options)


def _diff(options: dict[str, Any]) -> int:
    from harness.diff.diff import diff
    from harness.diff.lm_eval_run import read_both
    from harness.diff.shown import as_json, show, write

    result = diff(*read_both(options["a"], options["b"]))
    if options["json"]:
        print(as_json(result), end="")
    else:
        show(result)
    for file in write(result, options["to"]) if options["to"] else []:
        print(file, file=sys.stderr if options["json"] else sys.stdout)
    return 0


def _repair(options: dict[str, Any]) -> int:
    from harness.repair.checkpoint import repair

    print(repair(**options))
    return 0


def _export(options: dict[str, Any]) -> int:
    from harness.store.results import open_results

    open_results(options["out"]).record(options["name"])  # refused before torch is imported

    from harness.commands.export import export

    print(export(**options))
    return 0


def _reproduce(options: dict[str, Any]) -> int:
    from harness.commands.reproduce import reproduce

    return reproduce(**options)


def _publish(options: dict[str, Any]) -> int:
    from harness.report.hub import publish_to_hub, repository_of
    from harness.report.site import publish

    repository = repository_of(options["to"])
    if repository is not None:
        print(f"site: {publish_to_hub(options['folders'], repository)}")
    else:
        print(f"site: {publish(options['folders'], Path(options['to']))}")
    return 0


def _merge(options: dict[str, Any]) -> int:
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
    sys.exit(main())
