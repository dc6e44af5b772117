"""JSONL files of evaluation items, read and checked.

A row: {"id"?, "question", "context"?, "choices"?, "answer", "type"?, "subject" | "phenomenon" | "cluster"?}.
`type` says how it is scored; without one, and without one in the sidecar (harness/sidecar.py), the fields tell it:

    choice        choices: the likelihood of each choice's text as the assistant's answer
    pair          an empty question and choices: whole sentences, without a chat
    text          {"text"}: bits per byte
    continuation  whether greedy decoding goes on from the question to the answer, without a chat; bits per byte beside
    exact | numeric | f1 | rougeL   the answer (or any of a list) against what the model generates; numeric knows "tolerance"
                  (0.5, or "1%") and "unit"; without a type one of these is picked from all answers of the file
    constraint    {"instruction_id_list", "kwargs"} as IFEval has them, or any of "required", "forbidden", "schema", "bounds"
                  as harness/rules.py has them
    python        by the sidecar's scorer
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import constraints, scoring
from harness.errors import PlanError, raise_faults
from harness.numbers import read_tolerance, read_unit
from harness.records import json_type
from harness.rules import KINDS as RULES
from harness.rules import parse_rules
from harness.sidecar import Scorer, Sidecar, load_scorer, read_sidecar
from harness.store import key_of

TYPES = {
    "choice": "choice", "pair": "pair", "text": "text", "continuation": "continuation",
    "exact": "exact_match", "numeric": "numeric", "f1": "token_f1", "rougeL": "rouge_l",
    "constraint": "rules", "python": "python",
}  # fmt: skip
"""Type -> kind of task; a constraint in IFEval's form is of the kind `instructions`."""
FAULTS_SHOWN = 20
LEAST_CLUSTERS = 10
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Doc = dict[str, Any]


@dataclass
class ItemFile:
    """The items of a file, by kind and in order."""

    kinds: dict[str, list[Doc]]
    sidecar: Sidecar = field(default_factory=Sidecar)
    scorer: Scorer | None = None
    examples: list[Doc] = field(default_factory=list)
    """What few-shot examples are drawn from."""
    notes: list[str] = field(default_factory=list)

    def shots(self, doc: Doc) -> list[Doc]:
        """The examples before an item: fixed by the seed, of its own subject where there are any."""
        own = [example for example in self.examples if example["subject"] == doc["subject"]]
        return (own or self.examples)[: self.sidecar.shots]


def read_item_file(path: Path) -> ItemFile:
    """A JSONL file's items with its sidecar; whatever is wrong stands in one `PlanError`."""
    sidecar = read_sidecar(path)
    scorer = load_scorer(sidecar.scorer, path.parent) if sidecar.scorer else None
    found = ItemFile(read_items(path, sidecar, scorer), sidecar, scorer)
    if "instructions" in found.kinds:
        _runnable(found, path)
    if sidecar.shots:
        _set_aside(found, path)
    return found


def read_items(path: Path, sidecar: Sidecar | None = None, scorer: Scorer | None = None) -> dict[str, list[Doc]]:
    """A file's items by kind, in order. Raises PlanError with all faults."""
    sidecar, faults = sidecar or Sidecar(), list[str]()
    docs: dict[str, list[Doc]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            row = _Row(f"{path.name} line {number}", line, faults, sidecar, scorer)
            if (read := row.read()) is not None:
                docs.setdefault(read[0], []).append(read[1] | {"id": str(row.row.get("id", ""))})
    if not docs and not faults:
        faults.append(f"{path} holds no items; give it at least one")
    if len(faults) > FAULTS_SHOWN:
        faults = [*faults[:FAULTS_SHOWN], f"and {len(faults) - FAULTS_SHOWN:,} more faults in {path.name}"]
    raise_faults(faults)
    if "" in docs:  # answers to generate, no type given: one metric for all of them
        kind = scoring.pick_metric([doc["targets"][0] for doc in docs[""]])
        docs[kind] = [*docs.get(kind, []), *docs.pop("")]
    for found in docs.values():
        _clusters(found)
    return docs


def _clusters(docs: list[Doc]) -> None:
    """Few different names cluster nothing: each item then stands for itself."""
    if len({doc["cluster"] for doc in docs}) < LEAST_CLUSTERS:
        for doc in docs:
            doc["cluster"] = ""


def _runnable(file: ItemFile, path: Path) -> None:
    """Leave out the items whose checkers cannot run here, and say so; refuse settings that no checker takes."""
    kept, reasons, faults = [], list[str](), list[str]()
    for doc in file.kinds["instructions"]:
        try:
            reason = constraints.unrunnable(doc)
        except ValueError as error:
            faults.append(f"{path.name} item '{doc['id']}': 'kwargs' do not fit its instructions ({error})")
            continue
        reasons += [reason] if reason else []
        kept += [] if reason else [doc]
    raise_faults(faults[:FAULTS_SHOWN])
    if not kept:
        raise PlanError(f"no item of {path.name} can be scored here: {reasons[0]}")
    file.kinds["instructions"] = kept
    if reasons:
        total = len(kept) + len(reasons)
        file.notes.append(f"{path.name}: {len(reasons):,} of {total:,} items are left out: {reasons[0]}.")


def _set_aside(file: ItemFile, path: Path) -> None:
    """Find the few-shot examples, in an order drawn by content and seed."""
    side = file.sidecar

    def drawn(docs: Sequence[Doc]) -> list[Doc]:
        return sorted(docs, key=lambda doc: key_of([side.seed, "shots", doc["prompt"], doc["targets"]]))

    if {"pair", "text"} & file.kinds.keys():
        raise PlanError(f"{path.name}: sentences and texts are read without a prompt; leave `shots` out")
    if side.examples:
        other = path.parent / side.examples
        if not other.is_file():
            raise PlanError(f"{path.with_suffix('.toml').name}: examples file '{side.examples}' is not beside it")
        file.examples = drawn([doc for docs in read_items(other).values() for doc in docs])
    else:
        everything = drawn([doc for docs in file.kinds.values() for doc in docs])
        file.examples = everything[: side.dev]
        gone = {id(doc) for doc in file.examples}
        file.kinds = {kind: [doc for doc in docs if id(doc) not in gone] for kind, docs in file.kinds.items()}
        file.kinds = {kind: docs for kind, docs in file.kinds.items() if docs}
        if not file.kinds:
            raise PlanError(f"{path.with_suffix('.toml').name}: dev = {side.dev} leaves no item to evaluate; set fewer aside")
        file.notes.append(f"{path.name}: {len(file.examples):,} items are set aside as few-shot examples.")
    asked = {doc["prompt"] for docs in file.kinds.values() for doc in docs}
    file.examples = [doc for doc in file.examples if doc["prompt"] not in asked]
    if len(file.examples) < side.shots:
        raise PlanError(
            f"{path.name}: {side.shots} shots, but only {len(file.examples)} examples that are not items themselves"
        )


class _Row:
    """Reads one line; what is wrong with it goes to `faults`."""

    def __init__(self, where: str, line: str, faults: list[str], sidecar: Sidecar, scorer: Scorer | None) -> None:
        self.where, self.faults, self.sidecar, self.scorer = where, faults, sidecar, scorer
        try:
            self.row: Any = json.loads(line)
        except json.JSONDecodeError as error:
            self.row = {}
            self.fault(f"is not JSON ({error.msg} at place {error.pos + 1}); write one object a line")
            return
        if not isinstance(self.row, dict):
            self.fault(f"is {json_type(self.row)}; write an object with named fields")
            self.row = {}

    def fault(self, text: str) -> None:
        self.faults.append(f"{self.where}: {text}")

    def read(self) -> tuple[str, Doc] | None:
        """(kind, item); the kind is "" where the metric is still to be picked. None where the row has faults."""
        if not self.row:
            return None
        before = len(self.faults)
        kind = self._kind()
        if kind == "text":
            found = {"prompt": "", "targets": [self._text("text")]}
        elif kind in ("choice", "pair"):
            choices = self._choices()
            index = self._index(choices)
            found = {"prompt": self._prompt(), "choices": choices, "answer": index, "targets": choices[index : index + 1]}
        elif kind in ("rules", "instructions"):
            found = {"prompt": self._prompt(), "targets": [""]} | (self._rules() if kind == "rules" else self._instructions())
        elif kind == "python":
            found = self._python()
        else:
            found = {"prompt": self._prompt(), "targets": self._targets(), "reasoned": "solution" in self.row}
            found |= {"solution": self.row["solution"]} if isinstance(self.row.get("solution"), str) else {}
            found |= self._measure() if kind in ("", "numeric") else {}
            found |= {"rewrites": self._rewrites()} if "rewrites" in self.row else {}
        names = ("cluster", "subject", "phenomenon")
        cluster = next((str(self.row[name]) for name in names if self.row.get(name)), "")
        return None if len(self.faults) > before else (kind, found | {"cluster": cluster, "subject": cluster})

    def _kind(self) -> str:
        instructed = "instruction_id_list" in self.row
        given = self.row.get("type") or self.sidecar.type or ("python" if self.sidecar.scorer else None)
        if given is not None and given not in TYPES:
            self.fault(f"'type' is {given!r}; use one of {', '.join(TYPES)}, or leave it out")
        if given in TYPES:
            return "instructions" if given == "constraint" and instructed else TYPES[str(given)]
        if instructed or any(rule in self.row for rule in RULES):
            return "instructions" if instructed else "rules"
        if "text" in self.row and "question" not in self.row:
            return "text"
        if "choices" not in self.row:
            return ""
        return "choice" if self.row.get("question") else "pair"

    def _prompt(self) -> str:
        question = self._text("question", empty="choices" in self.row)
        context = self._text("context", empty=True) if self.row.get("context") is not None else ""
        return "\n".join(filter(None, (question, context)))

    def _text(self, field: str, empty: bool = False) -> str:
        value = self.row.get(field)
        if not isinstance(value, str):
            fields = ", ".join(f"'{name}'" for name in self.row)
            self.fault(f"'{field}' is {json_type(value)}; write it as text (the row has {fields})")
        elif not value.strip() and not empty:
            self.fault(f"'{field}' is empty; fill it or remove the row")
        else:
            return value
        return ""

    def _rewrites(self) -> list[str]:
        """The question in other words."""
        value = self.row["rewrites"]
        if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
            self.fault(f"'rewrites' is {json_type(value)}; write a list of the question's other wordings, as texts")
            return []
        return value

    def _choices(self) -> list[str]:
        value = self.row.get("choices")
        texts = isinstance(value, list) and all(isinstance(v, str) and v.strip() for v in value)
        if not texts or not 2 <= len(value) <= len(LETTERS):
            self.fault(f"'choices' is {json_type(value)}; write a list of 2 to {len(LETTERS)} non-empty texts")
            return []
        return value

    def _index(self, choices: Sequence[str]) -> int:
        """The right choice, given as a letter, an index from 0, or its text."""
        value = self.row.get("answer")
        if isinstance(value, str) and value not in LETTERS[: len(choices)] and choices.count(value) == 1:
            return choices.index(value)
        index = LETTERS.find(value) if isinstance(value, str) and len(value) == 1 else value
        if choices and (type(index) is not int or not 0 <= index < len(choices)):
            last = LETTERS[len(choices) - 1]
            self.fault(f"'answer' is {value!r}; give a letter from A to {last}, an index from 0, or a choice's text")
            return 0
        return index if isinstance(index, int) else 0

    def _targets(self) -> list[str]:
        """The accepted answers, as texts."""
        value = self.row.get("answer")
        values = value if isinstance(value, list) and value else [value]
        good = [str(v) for v in values if isinstance(v, (str, int, float)) and str(v).strip()]
        if len(good) < len(values):
            self.fault(f"'answer' is {json_type(value)}; give a text, a number, or a list of accepted texts")
        return good

    def _measure(self) -> Doc:
        """Tolerance and unit, where they are given."""
        found = {
            "tolerance": self.row.get("tolerance", self.sidecar.tolerance),
            "unit": self.row.get("unit", self.sidecar.unit),
        }
        try:
            read_tolerance(found["tolerance"])
            read_unit(found["unit"])
        except ValueError as error:
            self.fault(str(error))
        return {name: value for name, value in found.items() if value}

    def _rules(self) -> Doc:
        """The row's own rules and the sidecar's."""
        own = [{"name": kind, kind: self.row[kind]} for kind in RULES if kind in self.row]
        if not own and not self.sidecar.rules:
            self.fault(f"a constraint has no rule; give one of {', '.join(RULES)}, or instruction_id_list and kwargs")
        try:
            parse_rules(own, self.where)
        except PlanError as error:
            self.faults += error.faults
        told = "; ".join(f"{name} {rule[name]}" for rule in own for name in (rule["name"],))
        return {"rules": [*own, *self.sidecar.rules], "targets": [told]}

    def _instructions(self) -> Doc:
        """IFEval's instructions and their settings."""
        names, settings = self.row.get("instruction_id_list"), self.row.get("kwargs")
        if not isinstance(names, list) or not isinstance(settings, list) or len(names) != len(settings) or not names:
            self.fault("'instruction_id_list' and 'kwargs' are not two lists of the same length; give each instruction its own")
            return {}
        if unknown := [name for name in names if name not in constraints.known()]:
            self.fault(f"'instruction_id_list' has {unknown[0]!r}; use one of {', '.join(sorted(constraints.known()))}")
        return {"instructions": names, "settings": [one or {} for one in settings], "targets": ["; ".join(map(str, names))]}

    def _python(self) -> Doc:
        """The row as its scorer sees it; the scorer is tried on it."""
        prompt = self._prompt()
        if self.scorer is None:
            self.fault("'type' is python; name its function in the sidecar: scorer = \"file.py:function\"")
            return {}
        try:
            metrics = self.scorer.try_on(self.row, self.where)
        except PlanError as error:
            self.faults += error.faults
            return {}
        shown = self.row.get("answer")
        shown = [str(v) for v in (shown if isinstance(shown, list) else [shown]) if v is not None]
        return {"prompt": prompt, "targets": shown or [""], "row": self.row, "metrics": metrics, "source": self.scorer.source}
