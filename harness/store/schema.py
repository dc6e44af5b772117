"""The version of scores, the columns of item tables, the form of stored records, and the hash that names a question."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, TypedDict

from harness.text.json_reader import Form, misfit
from harness.vocabulary import Area, EvalKind, Role, Status, Track

PROTOCOL = 3
"""Raised whenever old and new scores may not share a table."""


SCHEMA_VERSION = 1


ITEM_COLUMNS = {
    "fraction": "float64",  # share of the budget spent when scored; 1 for `final`
    "alpha": "float64",  # interpolation weight towards the tuned model; 1 for `final`
    "task": "string",  # e.g. phantom_facts_choice
    "family": "string",  # e.g. facts: tasks of one family are averaged first
    "group": "string",  # domain | general
    "seen": "boolean",  # general families: may methods draw on this family? null for domain
    "channel": "string",  # likelihood | choice | generation | degeneration | calibration | drift
    "metric": "string",  # e.g. exact_match, rep3_word, nll, kl_to_base
    "primary": "boolean",  # the metric that enters the headline numbers of its task
    "higher_better": "boolean",
    "item": "string",  # stable id: the same item has the same id in every run
    "cluster": "string",  # items that share a template, passage or entity resample together
    "score": "float64",  # NaN: undefined for this item (never a sentinel)
    "chance": "float64",  # chance level of a primary metric, 0 where there is none
    "prompt": "string",  # texts stand on the primary row only
    "output": "string",
    "target": "string",
}
"""The one layout of stored scores: one row per item and metric."""


class ItemRow(TypedDict, total=False):
    """One row of stored scores, with the columns of `ITEM_COLUMNS` that apply to it."""

    task: str
    family: str
    group: str
    seen: bool | None
    channel: str
    metric: str
    primary: bool
    higher_better: bool | None
    item: str
    cluster: str
    score: float
    chance: float
    prompt: str
    output: str
    target: str


class DataRecord(TypedDict):
    """What comparison.json says of the data."""

    name: str
    path: str
    """As the plan gives it."""
    fingerprint: str
    notes: list[str]
    train: int
    dev: int
    test: int
    stages: NotRequired[list[str]]
    """The names of its files, where there are several."""


class SuiteRecord(TypedDict):
    """What a comparison asks of one suite, as comparison.json has it."""

    name: str
    tasks: list[str]
    items: int
    families: dict[str, int]
    """Family -> its items."""
    areas: dict[str, str]
    """General family -> the group of columns it is in."""


TEXTS = ("prompt", "output", "target")


NAMES = tuple(name for name, kind in ITEM_COLUMNS.items() if kind == "string" and name not in TEXTS)


class EntryRecord(TypedDict):
    """One run, as comparison.json has it."""

    row: str
    recipe: str
    track: str
    seed: int
    key: str
    """The run's folder in the store."""
    evals: Mapping[EvalKind, str]
    """The key of each evaluation's scores."""


class RowRecord(EntryRecord):
    """One run of a row of the table."""

    role: str
    measured: NotRequired[Mapping[str, Any]]
    """Of a model tuned elsewhere: what it is."""


class TrialRecord(EntryRecord):
    """A trial of the tuning, or a setting scored on test items beside the selected one."""

    trial: str
    selected: bool
    plain: NotRequired[bool]
    """Whether the recipe is plain fine-tuning, whatever its rate."""


class ReadEntry(EntryRecord):
    """An entry with what the store holds of its run; None where a record is missing."""

    status: Status | None
    status_record: Mapping[str, Any]
    run: Mapping[str, Any] | None
    ledger: Mapping[str, Any] | None
    probe: Mapping[str, Any] | None


class RunEntry(ReadEntry, RowRecord):
    """One run of a row, as a report reads it."""


class TrialEntry(ReadEntry, TrialRecord):
    """A trial, as a report reads it."""


class Zone(TypedDict):
    """The supervised tokens of a step whose loss lies between two bounds, in nats."""

    low: float
    high: float | None
    """None: no bound."""
    tokens: float
    """Share of the step's tokens."""
    gradient: float
    """Share of the step's gradient."""


class TokenWeights(TypedDict):
    """What methods weighed tokens by, in bins of token loss."""

    edges: list[float]
    tokens: list[float]
    mean: list[float | None]
    """Mean weight of a bin; None where it is empty."""


class LossLine(TypedDict):
    """What a logged step says of its loss: means over supervised tokens."""

    weights: NotRequired[TokenWeights]
    loss: float
    task_loss: float
    penalty: float
    supervised: int
    zones: list[Zone]


class StepLine(LossLine):
    """What an optimizer step says of itself. Methods may add numbers of their own, named `<method> <number>`."""

    rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    out_of_memory: NotRequired[str]


class LogLine(StepLine):
    """One line of a run's log."""

    step: int
    spent: float
    """Fraction of the budget."""
    stage: NotRequired[int]


def key_of(question: Any) -> str:
    """Return 16 hex digits naming a JSON-serialisable question; equal questions have equal keys."""
    text = json.dumps(question, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# Records travel: a folder that somebody else made is merged, published and reproduced, so nothing of it is taken on trust.
RUN_KEY = re.compile("[0-9a-f]{16}")
"""What names a run; a path is none."""
EVALUATION_KEY = re.compile(r"[\w ]+")
"""What names an evaluation: it becomes part of a file's name."""
NUMBER = (int, float)
RECORD_FORM: Form = {
    "name": str,
    "created": str,
    "command": str,
    "plan": {"data": str, "recipes": (str, list), "budget": str, "meter": str, "learning_rate": NUMBER},
    "question": dict,
    "model": {"name": str, "hash": str, "parameters": NUMBER},
    "data": {"name": str, "path": str, "fingerprint": str, "notes": [str], "stages": [str]},
    "suites": list,
    "notes": list,
    "trials": list,
    "families": [dict],
    "rules": list,
    "template": [list],
    "contamination": {"found": [dict]},
    "papers": {...: {"source": str, "bibtex": [str]}},
    "where": {"git": dict, "packages": dict, "machine": dict},
}
"""The form of a comparison's record."""
SUITE_FORM: Form = {"name": str, "tasks": [str], "items": int, "families": {...: int}, "areas": dict}
RUN_FORM: Form = {
    "asked": {"methods": [dict], "training": dict, "budget": dict, "model": dict, "data": dict, "measured": dict},
    "happened": {
        **dict.fromkeys(("wall_seconds", "evaluation_seconds", "steps", "epochs", "peak_memory_bytes"), NUMBER),
        "stability": {...: NUMBER},
        "models": [NUMBER],
        "notes": [str],
        "weights_hash": str,
    },
    "where": {"git": dict, "packages": dict, "machine": dict},
}
"""The form of a run's own record."""
LEDGER_FORM: Form = {
    "meter": str,
    **dict.fromkeys(("allowed", "spent", "overshoot", "flops", "seconds", "steps"), NUMBER),
    "accounts": {...: {...: NUMBER}},
    "tokens": {...: NUMBER},
}
ENTRY_FIELDS: dict[str, type] = {"row": str, "seed": int, "evals": dict}
"""Field of a row -> its type."""


def record_fault(record: Mapping[str, Any]) -> str:
    """Return the first thing that is wrong with the form of a record, in words; "" where nothing is."""
    return next(_faults(record), "")


def status_fault(record: Mapping[str, Any]) -> str:
    """Return what is wrong with the record of how a run ended, in words; "" where nothing is."""
    status = record.get("status")
    return f"has the status {str(status)[:40]!r}, which there is not" if status and status not in list(Status) else ""


def holds_scores(types: Mapping[str, str]) -> bool:
    """Return whether a table of columns of these types (in Arrow's words) may be one of scores.

    Those of earlier versions may lack columns that say more of an item.
    """
    return {"task", "metric", "item"} <= types.keys() and types.get("score") in ("double", "float", "int64")


def _faults(record: Mapping[str, Any]) -> Iterator[str]:
    if fault := misfit(record, RECORD_FORM):
        yield fault
        return
    for suite in record.get("suites") or []:
        yield from _suite_faults(suite)
    for entry in record["rows"]:
        yield from _entry_faults(entry, ENTRY_FIELDS | {"role": str})
    for trial in record.get("trials") or []:
        yield from _entry_faults(trial, ENTRY_FIELDS)


def _suite_faults(suite: Any) -> Iterator[str]:
    """Yield what is wrong with a suite."""
    if not isinstance(suite, dict) or not isinstance(suite.get("name"), str):
        yield "a suite has no name"
        return
    if fault := misfit(suite, SUITE_FORM):
        yield f"of a suite {fault}"
        return
    for family, area in (suite.get("areas") or {}).items():
        if area not in list(Area):
            yield f"the family '{str(family)[:40]}' has the area {str(area)[:40]!r}, which there is not"


def _entry_faults(entry: Any, fields: Mapping[str, type]) -> Iterator[str]:
    """Yield what is wrong with a row or a trial, which must have these fields."""
    if not isinstance(entry, dict) or not RUN_KEY.fullmatch(str(entry.get("key"))):
        yield "a row names no run by its key"
        return
    for name, kind in fields.items():
        if not isinstance(entry.get(name), kind):
            yield f"a row lacks its field '{name}', or it has another type"
            return
    if not all(isinstance(key, str) and EVALUATION_KEY.fullmatch(key) for key in entry["evals"].values()):
        yield "a row names an evaluation by what is no key"
    if abs(entry["seed"]) >= 2**63:
        yield "a row's seed is out of range"
    for name, words in (("role", Role), ("track", Track)):
        if entry.get(name) is not None and entry[name] not in list(words):
            yield f"a row's {name} is {str(entry[name])[:40]!r}, which there is not"
