"""What can be refused at once: names of methods and suites, settings, the budget, files that are not there. No torch here.

A command takes seconds to import what computes; a misspelt word is told before that. What only loading can tell is refused by
harness/setup/material.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from harness.bundled import embedded, find_suites
from harness.checkpoints.files import check_files
from harness.errors import PlanError, faults_of
from harness.files.formats import HUB_ID, names_hub_data
from harness.files.rule_files import read_format, read_rules
from harness.plan.measured import read_measured
from harness.plan.values import TRACKERS, parse_budget, parse_trackers
from harness.recipes.recipe_text import all_recipe_faults
from harness.spelling import did_you_mean
from harness.store.opening import check_file, shortened

if TYPE_CHECKING:
    from harness.plan.plan import Plan


def early_faults(plan: Plan) -> list[str]:
    """Return what is wrong with a plan, as far as names and places tell."""
    faults = _budget_faults(plan)
    faults += _tracker_faults(plan.report_to)
    faults += all_recipe_faults(plan.recipe_texts)

    # A bundled file is named without its folder.
    bundled = Path(embedded().data)
    named = [("data", source) for source in plan.sources if unnameable(source) or not (bundled / source).is_file()]
    named += [("test", path) for path in plan.test_paths]
    named += [("general", plan.general)] if plan.general is not None else []
    for option, source in named:
        faults += unnameable(source, option) or absent(option, source)

    # A model may be a folder, or a name that only the hub can judge.
    if plan.model is not None:
        faults += unnameable(plan.model, "model") or _model_faults(plan.model)
    # What cannot be read as rows has a fault of its own, and names nothing.
    is_readable = not faults_of(read_measured, plan.measured or "")
    for path in plan.measured_places if is_readable else ():
        faults += unnameable(path, "measured") or _measured_faults(path)
    for name in plan.suite_names:
        faults += unnameable(name, "suite") or _suite_faults(name)
    if plan.rules is not None:
        faults += faults_of(read_rules, plan.rules)
    if plan.answer_format is not None:
        faults += faults_of(read_format, plan.answer_format)
    return faults


def _budget_faults(plan: Plan) -> list[str]:
    # A budget in its own unit binds that meter; the default is in epochs, which any meter prices.
    if plan.budget is None:
        return []
    try:
        budget = parse_budget(plan.budget)
    except PlanError as error:
        return list(error.faults)
    if budget.unit != "epochs" and plan.meter not in (None, budget.unit):
        return [f"budget '{plan.budget}' is in {budget.unit} but meter is {plan.meter}; drop one"]
    return []


def _tracker_faults(report_to: str) -> list[str]:
    """Return trackers that do not exist, or whose client is not installed."""
    try:
        names = parse_trackers(report_to)
    except PlanError as error:
        return list(error.faults)
    faults = []
    for name in names:
        if find_spec(TRACKERS[name]) is None:
            faults.append(f"report_to={name} needs a package that is not installed: pip install 'lethe[{name}]'")
    return faults


def unnameable(text: str, option: str = "") -> list[str]:
    """Return that the system takes a text for no path at all: it is too long, or goes where nobody may look."""
    try:
        Path(text).expanduser().stat()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: there is no such user; ValueError: a NUL
        reason = getattr(error, "strerror", None) or error
        return [f"{option} '{shortened(text)}' cannot be a file here ({reason}); check the path".lstrip()]
    return []


def absent(option: str, source: str) -> list[str]:
    """Return why a source is no file that can be read; nothing of what may be a data set of the hub."""
    # A name that could be the hub's is not looked for here: that needs the network.
    return [] if names_hub_data(source) else faults_of(check_file, Path(source).expanduser(), f"{option} '{source}'")


def _model_faults(model: str) -> list[str]:
    path = Path(model).expanduser()
    if path.exists():
        return faults_of(check_files, model)
    if path.is_symlink():
        return [f"model '{model}' is a link to what is not there; mend the link, or give the folder itself"]
    if not HUB_ID.fullmatch(model) or model.startswith("."):
        return [f"model '{model}' does not exist; give the folder of a Hugging Face checkpoint, or a hub id"]
    return []


def _measured_faults(path: str) -> list[str]:
    """Return that there is no such place for a measured model; what stands there is for harness/measured/."""
    place = Path(path).expanduser()
    if place.exists() or (HUB_ID.fullmatch(path) and not path.startswith(".") and not place.is_symlink()):
        return []
    return [f"measured '{path}' does not exist; give the folder of a checkpoint, adapter or run, or a hub id"]


def _suite_faults(name: str) -> list[str]:
    suites = find_suites()
    suite, _, folder = name.partition(":")
    if suite in suites:
        return [f"suite '{name}': there is no folder {folder}; check the path"] if folder and not Path(folder).is_dir() else []

    # Any folder or file of items may be a suite of the user's own.
    path = Path(name)
    if path.is_dir() or (path.is_file() and path.suffix == ".jsonl"):
        return []
    bundled = ", ".join(suites)
    accepted = f"give a bundled suite ({bundled}), a folder of lm-eval YAML or JSONL, a .jsonl file, or a task of lm-eval"
    if path.exists() or path.suffix or "/" in name:
        return [f"suite '{name}' is no folder and no .jsonl file; {accepted}"]
    if _in_lm_eval(name):
        return []

    # Nobody knows it, so the nearest name is offered.
    return [f"suite '{name}' is not known here nor to lm-eval; {did_you_mean(name, suites, accepted)}"]


def _in_lm_eval(name: str) -> bool:
    """Return whether any of lm-eval's task files holds this word: then lm-eval itself has to say.

    Its own index takes far longer.
    """
    spec = find_spec("lm_eval")
    folders: Sequence[str] = (spec.submodule_search_locations or []) if spec else []

    # A word in a file of tasks may be the name of a task in it.
    word = re.compile(rb"(?<![\w-])" + re.escape(name.encode()) + rb"(?![\w-])")
    for folder in folders:
        for file in (Path(folder) / "tasks").rglob("*.y*ml"):
            if file.stem == name or word.search(file.read_bytes()):
                return True
    return not folders
