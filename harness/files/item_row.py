"""One item of a suite, read and checked: a row of a file as what is asked of a model and how it is scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.errors import PlanError
from harness.fields.refusals import refusals
from harness.fields.table import ACCEPTED, ANSWERS, CHOICES, CLUSTERS, HISTORIES, RULES, SYSTEMS, Place, names_read
from harness.files import instructions
from harness.files.choices import has_options, read_choice, read_options
from harness.files.row import Row, json_type, listed
from harness.files.sidecar import Scorer, Sidecar
from harness.files.turns import read_history, read_system
from harness.text.numbers import is_known_unit, read_tolerance, read_unit
from harness.text.rules import parse_rules
from harness.text.thoughts import split_thoughts

TYPES = {
    "choice": "choice", "pair": "pair", "text": "text", "continuation": "continuation",
    "exact": "exact_match", "numeric": "numeric", "f1": "token_f1", "rougeL": "rouge_l",
    "constraint": "rules", "python": "python",
}  # fmt: skip
"""Type -> kind of task; a constraint in IFEval's form is of the kind `instructions`."""
NAMES = [
    *("question", "context", "id", ACCEPTED, *ANSWERS, *CHOICES, *SYSTEMS, *HISTORIES),
    *names_read(Place.ITEM),
]
"""What a row may have: other names that are nearly one of these are refused."""
BESIDE_TEXT = {
    *("text", "id", *CLUSTERS),
    *("url", "source", "title", "meta", "metadata", "timestamp", "date", "lang", "language", "license"),
}
"""What may stand beside the text of an item that does not say its type; a category is what others ask for."""
Doc = dict[str, Any]


class Item:
    """Reads one row as an item."""

    def __init__(self, row: Row, sidecar: Sidecar, scorer: Scorer | None) -> None:
        self.row = row
        self.sidecar = sidecar
        self.scorer = scorer

    def read(self, unread: Counter[str]) -> tuple[str, Doc] | None:
        """Return (kind, item); the kind is "" where the metric is still to be picked. None where the row has faults."""
        row = self.row
        before = len(row.faults)
        kind = self._kind()
        if kind is None:
            return None
        if kind != "python":
            row.take_answers(several=not has_options(row))
            if len(row.faults) > before:
                return None
        doc = self._parts(kind)
        earlier = [*read_system(row), *read_history(row)]
        if earlier and kind in ("pair", "text", "continuation"):
            row.fault(f"is a {kind}, which is read without a chat, but has a system prompt or history; drop it")
        doc |= self._fill(kind)
        row.read.add("chance")
        clusters = [str(row.values[name]) for name in CLUSTERS if row.values.get(name)]
        row.read.update(CLUSTERS)

        # A scorer of the user's may read any field.
        if kind != "python":
            for sentence in refusals(Place.ITEM, row.original):
                row.fault(sentence)
            read_text = "\n".join([str(doc.get("prompt", "")), *(turn.content for turn in earlier)])
            row.check_fields(NAMES, unread, read_text.strip() or None)
        if len(row.faults) > before:
            return None
        cluster = clusters[0] if clusters else ""
        chance = self._chance()
        before_it = {"before": [[turn.role, turn.content] for turn in earlier]} if earlier else {}
        return kind, doc | before_it | chance | {"cluster": cluster, "subject": cluster}

    def _fill(self, kind: str) -> Doc:
        """Return how much text stands before the question, and which facts in it: {"tokens": n, "facts": [[depth,
        text], ...]}.
        """
        value = self.row.value("fill")
        # Most items stand in no text that fills the context.
        if value is None:
            return {}
        tokens = value.get("tokens") if isinstance(value, dict) else None
        facts = value.get("facts") if isinstance(value, dict) else None
        good = type(tokens) is int and tokens > 0 and isinstance(facts, list) and all(map(_is_fact, facts))
        if not good:
            self.row.fault('\'fill\' is not {"tokens": n, "facts": [[depth from 0 to 1, text], ...]}; write it so')
        # A pair or a text asks nothing, so nothing could stand before a question.
        elif kind in ("pair", "text") or not self.sidecar.filler:
            self.row.fault("'fill' needs a question, and a text to fill it with: name it in the sidecar: filler = \"file.txt\"")
        return {"fill": value}

    def _chance(self) -> Doc:
        """Score of a guess, where the row says it."""
        value = self.row.value("chance")
        if value is None:
            return {}
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
            self.row.fault(f"'chance' is {value!r}; give the score of a guess, from 0 to below 1")
            return {}
        return {"chance": float(value)}

    def _parts(self, kind: str) -> Doc:
        """Return what the kind asks for: prompt, accepted answers, options, rules."""
        if kind == "text":
            return {"prompt": "", "targets": [self.row.text("text")]}
        if kind in ("choice", "pair"):
            return self._choice()
        if kind == "rules":
            return {"prompt": self._prompt(), "targets": [""]} | self._rules()
        if kind == "instructions":
            return {"prompt": self._prompt(), "targets": [""]} | self._instructions()
        if kind == "python":
            return self._python()
        # What is left is answered freely, and scored against accepted answers.
        doc: Doc = {"prompt": self._prompt(), "targets": self._targets(), "reasoned": "solution" in self.row.values}
        if isinstance(solution := self.row.value("solution"), str):
            doc["solution"] = solution
        if kind in ("", "numeric"):
            doc |= self._measure([doc["prompt"], *doc["targets"]])
        if self.row.has("rewrites"):
            doc["rewrites"] = self._rewrites()
        return doc

    def _kind(self) -> str | None:
        """Return the kind of task, as the row or its sidecar says, else by the fields that each must have; None: it is none."""
        row = self.row
        instructed = row.has("instruction_id_list")
        named = row.value("type") or self.sidecar.type or ("python" if self.sidecar.scorer else None)
        if not isinstance(named, str):
            named = named if named is None else json_type(named)
        if named is not None and named not in TYPES:
            row.fault(f"'type' is {named!r}; use one of {', '.join(TYPES)}, or leave it out")
        if named in TYPES:
            return "instructions" if named == "constraint" and instructed else TYPES[str(named)]

        # Nobody says it: the fields do, unless they say two things.
        rule = "instruction_id_list" if instructed else row.first(RULES)
        answer = row.first((*ANSWERS, ACCEPTED, *CHOICES))
        if rule and answer:
            types = "constraint, where the answer is to keep the rule, or exact, choice ..., where it is to be equal"
            row.fault(f"has '{answer}' and '{rule}', which is a rule for answers; give the type {types}; or drop one")
            return None
        if rule:
            return "instructions" if instructed else "rules"
        if row.has("question"):
            if not has_options(row):
                return ""
            return "choice" if row.values["question"] else "pair"

        # Nothing is asked. A text is told by its text alone: beside anything else it may be a column of another form.
        others = [name for name in row.values if name not in BESIDE_TEXT]
        if row.has("text") and not others:
            return "text"
        cure = "; or give the type text, where the field 'text' is what is to be read" if row.has("text") else ""
        row.fault(f"no 'question'; add it, as text (it has {listed(row.values)}){cure}")
        return None

    def _prompt(self) -> str:
        row = self.row
        question = row.text("question", optional=has_options(row) and row.has("question"))
        return "\n".join(filter(None, (question, row.text("context", optional=True))))

    def _choice(self) -> Doc:
        row = self.row
        prompt = self._prompt() if row.has("question") else ""
        options = read_options(row)
        if options is None:
            return {}
        right = read_choice(row, options)
        choices = list(options.texts)
        return {"prompt": prompt, "choices": choices, "answer": right, "targets": choices[right : right + 1]}

    def _rewrites(self) -> list[str]:
        """Return the question in other words."""
        value = self.row.value("rewrites")
        if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
            self.row.fault(f"'rewrites' is {json_type(value)}; write a list of the question's other wordings, as texts")
            return []
        return value

    def _targets(self) -> list[str]:
        """Return the accepted answers, as texts."""
        value = self.row.value("answer")
        values = value if isinstance(value, list) and value else [value]
        # True and False are numbers to Python, and no answers.
        texts = [str(v) for v in values if isinstance(v, (str, int, float)) and not isinstance(v, bool) and str(v).strip()]
        # What a model says is read without its thoughts, so that an answer is too.
        texts = [self.row.checked("'answer'", split_thoughts(text)[1]) for text in texts]
        if len(texts) < len(values):
            self.row.fault(f"'answer' is {json_type(value)}; give a text, a number, or a list of accepted texts")
        return texts

    def _measure(self, texts: Sequence[str]) -> Doc:
        """Return tolerance and unit, where they are given; `texts`: the question and its answers."""
        row = self.row
        tolerance = row.value("tolerance") if row.has("tolerance") else self.sidecar.tolerance
        unit = row.value("unit") if row.has("unit") else self.sidecar.unit
        try:
            read_tolerance(tolerance)
            read_unit(unit)
        except ValueError as error:
            row.fault(str(error))
            return {}

        # A column of this name may be something else: a chapter, a department. Every other unit would then be wrong.
        named = " ".join(texts).casefold()
        if row.has("unit") and unit.strip() and not is_known_unit(unit) and unit.strip().casefold() not in named:
            row.fault(
                f"'unit' is {unit!r}, no known unit and in neither question nor answer; drop it where it is another thing"
            )
        return {name: value for name, value in (("tolerance", tolerance), ("unit", unit)) if value}

    def _rules(self) -> Doc:
        """Return the row's own rules and the sidecar's."""
        row = self.row
        rules = [{"name": kind, kind: row.value(kind)} for kind in RULES if row.has(kind)]
        if not rules and not self.sidecar.rules:
            row.fault(f"a constraint has no rule; give one of {', '.join(RULES)}, or instruction_id_list and kwargs")
        try:
            parse_rules(rules, row.where)
        except PlanError as error:
            row.faults += error.faults
        target = "; ".join(f"{rule['name']} {rule[rule['name']]}" for rule in rules)
        return {"rules": [*rules, *self.sidecar.rules], "targets": [target]}

    def _instructions(self) -> Doc:
        """Return IFEval's instructions and their settings."""
        names = self.row.value("instruction_id_list")
        settings = self.row.value("kwargs")
        if not isinstance(names, list) or not isinstance(settings, list) or len(names) != len(settings) or not names:
            self.row.fault("'instruction_id_list' and 'kwargs' are no two lists of one length; give each instruction its own")
            return {}
        if unknown := [name for name in names if not isinstance(name, str) or name not in instructions.known()]:
            accepted = ", ".join(sorted(instructions.known()))
            self.row.fault(f"'instruction_id_list' has {unknown[0]!r}; use one of {accepted}")
        return {
            "instructions": names,
            "settings": [options or {} for options in settings],
            "targets": ["; ".join(map(str, names))],
        }

    def _python(self) -> Doc:
        """Return the row as its scorer sees it; the scorer is tried on it."""
        row = self.row
        prompt = self._prompt()
        if self.scorer is None:
            row.fault("'type' is python; name its function in the sidecar: scorer = \"file.py:function\"")
            return {}
        try:
            metrics = self.scorer.try_on(row.original, row.where)
        except PlanError as error:
            row.faults += error.faults
            return {}

        # The report shows the row's answer, where it has one; the scorer reads what it likes.
        answer = row.original.get("answer")
        targets = [str(value) for value in (answer if isinstance(answer, list) else [answer]) if value is not None]
        source = self.scorer.source
        return {"prompt": prompt, "targets": targets or [""], "row": row.original, "metrics": metrics, "source": source}


def _is_fact(value: Any) -> bool:
    """Return whether a value is a fact of a long prompt: [depth from 0 to 1, text]."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    depth, text = value
    return isinstance(depth, (int, float)) and 0 <= depth <= 1 and isinstance(text, str) and bool(text.strip())
