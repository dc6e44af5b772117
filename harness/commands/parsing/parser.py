"""The options of every `lethe` command."""

from __future__ import annotations

import argparse
import dataclasses
import platform
import re
from pathlib import Path
from typing import Any, NoReturn

import shtab

from harness.errors import PlanError
from harness.plan.load import MEASURING, add_flags
from harness.plan.plan import Plan
from harness.spelling import did_you_mean


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one sentence, where argparse would print every option first."""

    def error(self, message: str) -> NoReturn:
        # A misspelt option is the commonest mistake: the close one is named.
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        options: list[str] = []
        for action in self._options():
            options += action.option_strings
        hint = f"`{self.prog} --help` says what there is"
        if unknown:
            hint = did_you_mean(unknown[1], options, hint)
        raise PlanError(f"{message}; {hint}")

    def _options(self) -> list[argparse.Action]:
        """Return the options of this command and of the commands below it."""
        options = list(self._actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    options += parser._actions
        return options


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


CODE = "a file or folder of code that the record names and that may run here; may be given several times"


def make_parser() -> argparse.ArgumentParser:
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
    """Add the commands for finished comparisons and models, in the order in which --help lists them."""
    _add_repair(commands)
    _add_export(commands)
    _add_reproduce(commands)
    _add_publish(commands)
    _add_annotate(commands)
    _add_merge(commands)


def _add_repair(commands: Any) -> None:
    repair = commands.add_parser("repair", help="mend a model that was tuned elsewhere, without training")
    repair.add_argument("base", metavar="BASE", help="folder or hub id of the untuned model")
    repair.add_argument("tuned", metavar="TUNED", help="folder or hub id of the tuned checkpoint, or of a peft adapter")
    repair.add_argument(
        "--by", default="dghard", metavar="RECIPE", help="methods that act after training: interpolate, wise, lines, ties ..."
    )
    repair.add_argument("--general", metavar="FILE", help="general records, part of which interpolate chooses its strength by")
    repair.add_argument("--to", required=True, metavar="DIR", help="new folder for the checkpoint")
    repair.add_argument("--seed", type=int, default=0, help="of what a method draws (default: 0)")


def _add_export(commands: Any) -> None:
    export = commands.add_parser("export", help="a run's model as a checkpoint for transformers, with its card")
    export.add_argument("name", help="name of the comparison: results/<name>")
    export.add_argument("--to", required=True, metavar="DIR", help="new folder for the checkpoint")
    export.add_argument("--recipe", help="row of the table; default: the one the verdict is about")
    export.add_argument("--seed", type=int, default=0, help="which of its runs (default: 0)")
    export.add_argument("--retrain", action="store_true", help="train it again, bit for bit, where its weights were not kept")
    export.add_argument("--code", action="append", default=[], metavar="PLACE", help=CODE)
    export.add_argument("--out", default="results", help="folder of results and of the run store")


def _add_reproduce(commands: Any) -> None:
    reproduce = commands.add_parser("reproduce", help="run a published comparison from its record and say what differs")
    reproduce.add_argument("folder", help="results/<name>, with comparison.json and table.csv")
    reproduce.add_argument("--only", metavar="RECIPES", help="these rows of its table")
    reproduce.add_argument("--code", action="append", default=[], metavar="PLACE", help=CODE)
    reproduce.add_argument("--out", default="results/reproduced", help="folder of the new runs and results")


def _add_publish(commands: Any) -> None:
    publish = commands.add_parser("publish", help="a static leaderboard site from any number of comparisons")
    publish.add_argument("folders", nargs="+", type=Path, help="results/<name> ...")
    publish.add_argument(
        "--to", required=True, metavar="DIR", help="folder of the site, or hub:OWNER/NAME: a static Space on the hub"
    )


def _add_annotate(commands: Any) -> None:
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


def _add_merge(commands: Any) -> None:
    merge = commands.add_parser("merge", help="join comparisons from several machines into one")
    merge.add_argument("folders", nargs="+", type=Path, help="A/<name> B/<name> ..., each beside its runs/")
    merge.add_argument("--to", required=True, type=Path, metavar="DIR", help="new comparison: C/<name>; its runs go to C/runs")


def _add_data(commands: Any) -> None:
    """Add `lethe data inspect|dedup|sort|score`."""
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
