"""One line of a JSONL suite, read and checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness import constraints
from harness.errors import PlanError
from harness.numbers import read_tolerance, read_unit
from harness.records import json_type
from harness.rules import KINDS as RULES
from harness.rules import parse_rules
from harness.sidecar import Scorer, Sidecar

TYPES = {
    "choice": "choice", "pair": "pair", "text": "text", "continuation": "continuation",
    "exact": "exact_match", "numeric": "numeric", "f1": "token_f1", "rougeL": "rouge_l",
    "constraint": "rules", "python": "python",
}  # fmt: skip
"""Type -> kind of task; a constraint in IFEval's form is of the kind `instructions`."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Doc = dict[str, Any]


class Row:
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
