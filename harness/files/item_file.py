"""Files of evaluation items, read and checked.

A row: {"id"?, "question", "context"?, "choices"?, "answer", "type"?, "subject" | "phenomenon" | "cluster"?}, and what else
harness/fields/table.py says of records and items.
`type` says how it is scored; without one, and without one in the sidecar (harness/files/sidecar.py), the fields tell it:

    choice        choices: the likelihood of each choice's text as the assistant's answer
    pair          an empty question and choices: whole sentences, without a chat
    text          {"text"}: bits per byte
    continuation  whether greedy decoding goes on from the question to the answer, without a chat; bits per byte beside
    exact | numeric | f1 | rougeL   the answer (or any of a list) against what the model generates; numeric knows "tolerance"
                  (0.5, or "1%") and "unit"; without a type one of these is picked from all answers of the file
    constraint    {"instruction_id_list", "kwargs"} as IFEval has them, or any of "required", "forbidden", "schema", "bounds"
                  as harness/text/rules.py has them
    python        by the sidecar's scorer
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from harness.errors import PlanError, raise_faults
from harness.fields.table import KNOWN
from harness.files import instructions
from harness.files.formats import read_rows
from harness.files.item_row import Doc, Item
from harness.files.row import FAULTS_SHOWN, Row, shortened, unread_note
from harness.files.sidecar import Scorer, Sidecar, load_scorer, read_sidecar, read_tools
from harness.store.opening import read_text
from harness.store.schema import key_of
from harness.text import answer_metrics

LEAST_CLUSTERS = 10


@dataclass
class ItemFile:
    """The items of a file, by kind and in order."""

    kinds: dict[str, list[Doc]]
    sidecar: Sidecar = field(default_factory=Sidecar)
    scorer: Scorer | None = None
    examples: list[Doc] = field(default_factory=list)
    """What few-shot examples are drawn from."""
    notes: list[str] = field(default_factory=list)
    filler: str = ""
    """The text of which items with `fill` get a part."""

    def shots(self, doc: Doc) -> list[Doc]:
        """Return the examples before an item: fixed by the seed, of its own subject where there are any."""
        same_subject = [example for example in self.examples if example["subject"] == doc["subject"]]
        return (same_subject or self.examples)[: self.sidecar.shots]


def read_item_file(path: Path) -> ItemFile:
    """Return a file's items with its sidecar; whatever is wrong stands in one `PlanError`."""
    sidecar = read_sidecar(path)
    scorer = load_scorer(sidecar.scorer, path.parent) if sidecar.scorer else None
    notes: list[str] = []
    file = ItemFile(read_items(path, sidecar, scorer, notes), sidecar, scorer, notes=notes)
    if sidecar.tools:
        _give_tools(file, path)
    if sidecar.filler:
        filler = path.parent / sidecar.filler
        file.filler = read_text(filler, f"filler text '{filler}'")
    # What an item needs at scoring is tried now, so that no run ends in its lack.
    if "instructions" in file.kinds:
        _runnable(file, path)
    if sidecar.shots:
        _set_aside(file, path)
    return file


def read_items(
    path: Path, sidecar: Sidecar | None = None, scorer: Scorer | None = None, notes: list[str] | None = None
) -> dict[str, list[Doc]]:
    """Return a file's items by kind, in order; what the report must say is added to `notes`.

    Raises PlanError with all faults.
    """
    sidecar, faults = sidecar or Sidecar(), list[str]()
    docs: dict[str, list[Doc]] = {}
    unread: Counter[str] = Counter()
    pairs: list[str] = []
    for where, value in read_rows(str(path), faults, None if scorer else KNOWN):
        row = Row.open(where, value, faults)
        read = Item(row, sidecar, scorer).read(unread) if row else None
        if row and read:
            kind, doc = read
            docs.setdefault(kind, []).append(doc | {"id": str(row.original.get("id", ""))})
            if kind == "pair" and not row.has("type") and not sidecar.type:
                pairs.append(where)

    # An empty question among others is a question that was lost.
    if "choice" in docs:
        cure = "fill it, or give the type pair, which compares whole sentences without a question"
        faults += [f"{where}: 'question' is empty beside records that have one; {cure}" for where in pairs]
    if not docs and not faults:
        faults.append(f"{path} holds no items; give it at least one")
    raise_faults(shortened(faults, path.name))
    if notes is not None:
        notes += unread_note(path.name, unread)
    if "" in docs:  # answers to generate, no type given: one metric for all of them
        kind = answer_metrics.pick_metric([doc["targets"][0] for doc in docs[""]])
        docs[kind] = [*docs.get(kind, []), *docs.pop("")]
    for part in docs.values():
        _clusters(part)
    return docs


def _give_tools(file: ItemFile, path: Path) -> None:
    """Put the sidecar's tools before every conversation. Raises PlanError where they are none, or items have no chat."""
    tools = read_tools(path.parent / file.sidecar.tools)
    for kind, docs in file.kinds.items():
        if kind in ("pair", "text", "continuation"):
            raise PlanError(f"{path.name}: a {kind} is read without a chat, so it cannot have tools; leave `tools` out")
        for doc in docs:
            doc["before"] = [["tools", tools], *doc.get("before", [])]


def _clusters(docs: list[Doc]) -> None:
    """Return the clusters that names make. Few different names cluster nothing: each item then stands for itself."""
    if len({doc["cluster"] for doc in docs}) < LEAST_CLUSTERS:
        for doc in docs:
            doc["cluster"] = ""


def _runnable(file: ItemFile, path: Path) -> None:
    """Leave out the items whose checkers cannot run here, and say so; refuse settings that no checker takes."""
    kept, reasons, faults = [], list[str](), list[str]()
    for doc in file.kinds["instructions"]:
        try:
            reason = instructions.unrunnable(doc)
        except ValueError as error:
            faults.append(f"{path.name} item '{doc['id']}': 'kwargs' do not fit its instructions ({error})")
            continue
        reasons.append(reason)
        kept += [] if reason else [doc]
    raise_faults(faults[:FAULTS_SHOWN])
    notes = instructions.left_out(path.name, reasons)
    if not kept:
        raise PlanError(f"no item can be scored here. {notes[0]}")
    file.kinds["instructions"] = kept
    file.notes += notes


def _set_aside(file: ItemFile, path: Path) -> None:
    """Find the few-shot examples, in an order drawn by content and seed."""
    side = file.sidecar

    def drawn(docs: Sequence[Doc]) -> list[Doc]:
        return sorted(docs, key=lambda doc: key_of([side.seed, "shots", doc["prompt"], doc["targets"]]))

    if {"pair", "text"} & file.kinds.keys():
        raise PlanError(f"{path.name}: sentences and texts are read without a prompt; leave `shots` out")
    # Examples come from a file of their own, or are taken away from the items.
    if side.examples:
        other = path.parent / side.examples
        if not other.is_file():
            raise PlanError(f"{path.with_suffix('.toml').name}: examples file '{side.examples}' is not beside it")
        file.examples = drawn(list(chain.from_iterable(read_items(other).values())))
    else:
        everything = drawn(list(chain.from_iterable(file.kinds.values())))
        file.examples = everything[: side.dev]
        gone = {id(doc) for doc in file.examples}
        file.kinds = {kind: [doc for doc in docs if id(doc) not in gone] for kind, docs in file.kinds.items()}
        file.kinds = {kind: docs for kind, docs in file.kinds.items() if docs}
        if not file.kinds:
            raise PlanError(f"{path.with_suffix('.toml').name}: dev = {side.dev} leaves no item to evaluate; set fewer aside")
        file.notes.append(f"{path.name}: {len(file.examples):,} items are set aside as few-shot examples.")
    # An item among its own examples would be answered by copying.
    prompts = {doc["prompt"] for doc in chain.from_iterable(file.kinds.values())}
    file.examples = [doc for doc in file.examples if doc["prompt"] not in prompts]
    if len(file.examples) < side.shots:
        raise PlanError(
            f"{path.name}: {side.shots} shots, but only {len(file.examples)} examples that are not items themselves"
        )
