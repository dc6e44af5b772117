"""How a plan is made: files, presets, flags, defaults."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.bundled import ROOT, embedded, for_own_models
from harness.errors import PlanError, raise_faults
from harness.plan.check import LONGEST_NAME, faults_of_plan
from harness.plan.early import early_faults, unnameable
from harness.plan.plan import DEFAULT_BUDGET, Plan, kind_of
from harness.spelling import did_you_mean
from harness.store.opening import read_given_toml
from harness.text.bounds import as_float

UNWRITABLE = re.compile("[\\x00\ud800-\udfff]")
"""Characters that no file's name has, and no UTF-8 text."""
SHOWN = 80
"""Characters of a wrong value that are shown."""


def shown(value: Any) -> str:
    """Return a wrong value as a message shows it."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return "a number of so many digits"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def make_plan(options: dict[str, Any], file: str | None = None) -> Plan:
    """Return a plan from options (None: not given) over those of a TOML file. All faults are reported together."""
    given = _read_toml(file) if file else {}
    given |= {key: value for key, value in options.items() if value is not None}
    fields = {f.name: f for f in dataclasses.fields(Plan)}
    faults = []

    # A misspelt option must not be passed over: the run would be another one than was meant.
    for key in [key for key in given if key not in fields]:
        hint = did_you_mean(key, fields, f"options are {', '.join(fields)}")
        faults.append(f"there is no option '{key}'; {hint}")
        del given[key]
    for key, value in given.items():
        listed = isinstance(value, list) and all(isinstance(part, str) for part in value)
        if listed and key in ("recipes", "suites"):
            given[key] = " ".join(value)
        elif listed and key == "measured":
            given[key] = shlex.join(value)
        kind = kind_of(key)
        if kind is float and type(given[key]) is int:  # true and false are no numbers
            given[key] = as_float(given[key])
        if type(given[key]) is not kind:
            faults.append(f"{key} takes {kind.__name__}, not {shown(given[key])}")
            given[key] = fields[key].default
        elif kind is str and (character := UNWRITABLE.search(given[key])):
            faults.append(f"{key} has the character U+{ord(character[0]):04X} at place {character.start() + 1}; leave it out")
            given[key] = fields[key].default

    # Faults of types and of values are told together: a user mends the file once.
    plan = Plan(**given)
    raise_faults(faults + faults_of_plan(plan) + early_faults(plan))
    return plan


PRESETS = Path(__file__).parent / "presets"
"""Plans for usual hardware, named by their file's stem."""


def _read_toml(file: str) -> dict[str, Any]:
    # A preset wins over a file of the same name only where no ending is given.
    presets = {path.stem: path for path in sorted(PRESETS.glob("*.toml"))}
    path = presets.get(file, Path(file))
    raise_faults(unnameable(file, "plan file"))
    if not os.path.lexists(path):
        raise PlanError(f"plan file '{file}' does not exist, and is no preset; presets are {', '.join(presets)}")
    return read_given_toml(path, f"plan file '{file}'", 'an option, as recipes = "sft lora"')


def portable(plan: Plan) -> Plan:
    """Return the plan as recorded: places inside this checkout are told from its top, so that records name no machine."""
    places = ("data", "test", "model", "general", "deepspeed")
    changes = {key: str(value).replace(f"{ROOT}/", "") for key in places if (value := getattr(plan, key)) is not None}
    return dataclasses.replace(plan, **changes)


def _bundled(folder: Path, source: str, test: str | None) -> tuple[str, str | None]:
    """Return where a data file and its test file are: as given, else among the bundled ones."""
    # A file of the user's wins over a bundled one of the same name.
    bundled = folder / source
    if Path(source).exists() or not bundled.is_file():
        return source, test
    beside = bundled.with_suffix(f".test{bundled.suffix}")
    return str(bundled), test or (str(beside) if beside.exists() else None)


def _default_name(plan: Plan) -> str:
    """Return the stem of the data, with the model's name where one is given: letters, digits and -+._ only."""
    stem = "+".join(Path(source).stem for source in plan.sources) or "measured"
    # A folder is named by what it is called, wherever it was started from.
    if plan.model is not None:
        model = Path(plan.model).resolve().name if Path(plan.model).is_dir() else Path(plan.model).name
        stem = f"{stem}-{model}"
    return _cut(re.sub(r"[^\w.+-]+", "-", stem)).strip(".-") or "comparison"


def _cut(name: str) -> str:
    """Return as much of a name as a folder may have, with room for a number."""
    return name.encode()[: LONGEST_NAME - 4].decode(errors="ignore")


def resolve_places(plan: Plan) -> Plan:
    """Fill in the embedded defaults: model, data, test, general pool, budget, suites and name."""
    # Decided here and nowhere else, so that no default is written twice.
    home = embedded()
    changes: dict[str, Any] = {}
    pairs = zip(plan.sources, plan.tests, strict=True) if plan.sources else ()  # test files alone are as given
    pairs_of_files = [_bundled(Path(home.data), *names) for names in pairs]
    changes["data"] = ",".join(source for source, _ in pairs_of_files)
    if any(test for _, test in pairs_of_files):
        changes["test"] = ",".join(test or "" for _, test in pairs_of_files)

    # The embedded base comes with its own pool; another model has none unless it is given.
    if plan.model is None:
        changes["model"] = home.model
        changes["general"] = plan.general or home.general

    # The embedded comparison is the first that anybody runs: it must end within minutes on two cores.
    if plan.budget is None:
        changes["budget"] = home.budget if plan.model is None else DEFAULT_BUDGET

    # Suites of the embedded world ask about facts that only its own base knows.
    if plan.suites is None:
        changes["suites"] = home.name if plan.model is None else " ".join(for_own_models())
    if plan.name is None:
        changes["name"] = _default_name(plan)
    return dataclasses.replace(plan, **changes)


MEASURING = (
    *("data", "test", "general", "contamination", "rules", "answer_format", "mode", "max_length"),
    *("suites", "domain_metric", "limit", "backend", "scoring", "device", "devices", "threads", "workers", "ray"),
    *("name", "out", "require"),
)
"""Options that mean something where nothing is trained."""


def add_flags(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Give a parser a flag for each of these options. Flags that are not given are absent from the parsed options."""
    for field in dataclasses.fields(Plan):
        # A command shows only the options that mean something to it.
        if field.name not in names:
            continue
        truth = kind_of(field.name) is bool
        alone: dict[str, Any] = {"nargs": "?", "const": True} if truth else {}
        shown = "" if field.default is None else f" (default: {field.default})"
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=_truth if truth else kind_of(field.name),
            default=argparse.SUPPRESS,
            metavar=field.name.upper(),
            help=field.metadata["help"].replace("%", "%%") + shown,
            **alone,
        )


def _truth(text: str) -> bool:
    """Read `--flag`, `--flag true`, `--flag false`."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return text.lower() == "true"
