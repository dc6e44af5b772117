"""A suite made of lm-eval's own tasks: suite.toml says which, how many items of each, and what lm-eval does not know.

    name = "standard"
    folders = ["arc", "mmlu"]      # where lm-eval keeps them: its whole index takes a quarter of a minute
    adapt = "adapt.py"             # rows of local files -> the task's own columns
    [[task]]
    name = "arc_challenge"         # lm-eval's task, group or tag; a group is one task here
    family, seen, chat, primary    # as in docs/architecture.md
    size = 300                     # items, drawn by content with `seed`
    files = ["arc_challenge"]      # names of its local file, without .jsonl
    form = "arc"                   # function of `adapt`
    whole = "all"                  # the hub's configuration that holds all parts of a group, with a column `subject`
    overrides = {}                 # of lm-eval's settings

`standard` takes the data from the hub (or its cache), `standard:FOLDER` from JSONL files: the same tasks, with the same
prompts and scores. What a folder lacks is named in a note, with how to get it; what the hub does not give stops the plan.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from datasets import Dataset

from harness.bundled import Suite
from harness.errors import PlanError, raise_faults
from harness.files.instructions import ifeval_item, known, left_out, steady, unrunnable
from harness.tasks.subset import Drawn, drawn, gathered

Row = dict[str, Any]


class _Splits(dict[str, Dataset]):
    """One local file stands for every split: only the evaluated one is read, since nothing here has examples drawn."""

    def __init__(self, rows: Dataset) -> None:
        super().__init__()
        self.rows = rows

    def __missing__(self, _: str) -> Dataset:
        return self.rows


class Collection:
    """The tasks of one suite.toml."""

    def __init__(self, suite: Suite, folder: Path | None) -> None:
        from lm_eval import tasks

        self.suite = suite
        self.folder = folder
        self.entries: list[Row] = suite.settings["task"]
        self.seed = int(suite.settings.get("seed", 0))
        self.notes: list[str] = []

        # Its checkers print when they are first imported: here they are imported quietly.
        if any(entry.get("checked") for entry in self.entries):
            known()
        home = Path(tasks.__file__).parent
        paths: list[str | Path] = [home / name for name in suite.settings["folders"]]
        self.manager = tasks.TaskManager(include_path=paths, include_defaults=False)
        if folder is not None and not folder.is_dir():
            raise PlanError(f"suite '{suite.name}:{folder}': there is no such folder; name one with JSONL files")

    def load(self) -> list[tuple[Row, Drawn, str]]:
        """[(entry, task, what the report must say)]. Raises PlanError with every data set that is missing and how to get it."""
        loaded: list[tuple[Row, Drawn, str]] = []
        faults: list[str] = []
        missing: list[Row] = []
        with contextlib.ExitStack() as stack:
            for entry in self.entries:
                file = self._file(entry)
                if self.folder is not None and file is None:
                    missing.append(entry)
                    continue
                self.notes = []
                try:
                    task = self._task(entry, file)
                    loaded.append((entry, task, " ".join(self.notes)))
                except PlanError as error:
                    faults += error.faults
                except Exception as error:  # whatever the hub, a data set or lm-eval's code raises
                    faults.append(self._failed(entry, error))
                    if _unreachable(error):
                        # Each further task would wait a minute for the network; the cache may hold it all the same.
                        stack.enter_context(_offline())

        # A folder that lacks some tasks is measured without them, and the report says so; one that lacks all is a mistake.
        raise_faults(faults or ([self._lacks(missing)] if missing and not loaded else []))
        if missing:
            entry, task, note = loaded[0]
            loaded[0] = (entry, task, f"{note} {self._lacks(missing)}".strip())
        return loaded

    def _failed(self, entry: Row, error: Exception) -> str:
        reason = (str(error).splitlines() or [""])[0][:200]
        why = f"task '{entry['name']}' cannot be loaded ({type(error).__name__}: {reason})"
        return f"suite '{self.suite.name}': {why}; {self.how_to_get(entry)} and give SUITES={self.suite.name}:FOLDER"

    def _lacks(self, missing: list[Row]) -> str:
        names = ", ".join(entry["name"] for entry in missing)
        total = len(self.entries)
        how = "; ".join(map(self.how_to_get, missing))
        return f"{self.folder} lacks {len(missing)} of the {total} tasks of {self.suite.name}, not evaluated: {names}. {how}."

    def _file(self, entry: Row) -> Path | None:
        if self.folder is None:
            return None
        paths = [self.folder / f"{name}.jsonl" for name in (*entry.get("files", ()), entry["name"])]
        return next((path for path in paths if path.is_file()), None)

    def _task(self, entry: Row, file: Path | None) -> Drawn:
        names = self._leaves(entry["name"])
        overrides = dict(entry.get("overrides", {}))
        if file is None:
            leaves = [self._build(name, overrides) for name in names]
        else:
            parts = self._parts(entry, names, self._rows(entry, file), file)
            leaves = [self._build(name, overrides | {"custom_dataset": _source(rows)}) for name, rows in parts]
        steady()

        # Of a task with checkers only the items whose checkers run here are asked.
        docs = gathered(leaves)
        if entry.get("checked"):
            docs = self._runnable(entry["name"], docs)
        chosen = drawn(entry["name"], docs, entry.get("size", len(docs)), self.seed)
        if len(chosen) < len(docs):
            self.notes.append(f"{entry['name']}: {len(chosen):,} of {len(docs):,} items, drawn by content, seed {self.seed}.")
        task = Drawn(entry["name"], leaves, chosen)
        raise_faults([f"{file.name if file else entry['name']}: {fault}" for fault in unanswerable(task)])
        return task

    def _runnable(self, name: str, docs: list[Row]) -> list[Row]:
        """The documents whose checkers run here; the others are counted in a note."""
        reasons = [unrunnable(ifeval_item(doc["doc"])) for doc in docs]
        self.notes += left_out(name, reasons)
        return [doc for doc, reason in zip(docs, reasons, strict=True) if not reason]

    def _build(self, name: str, overrides: Row) -> Any:
        index = self.manager.task_index
        return self.manager._factory.build(index[name], overrides=overrides, registry=index)

    def _leaves(self, name: str) -> list[str]:
        """The names of the tasks that a task, group or tag stands for."""
        entry = self.manager.task_index.get(name)
        if entry is None:
            raise PlanError(f"lm-eval has no task '{name}' in {', '.join(self.suite.settings['folders'])}")
        if entry.kind.name == "TAG":
            parts = sorted(entry.tags)
        elif entry.kind.name == "GROUP":
            parts = [part if isinstance(part, str) else part["task"] for part in self._config(name).get("task", [])]
        else:
            return [name]
        return list(chain.from_iterable(map(self._leaves, parts)))

    def _config(self, name: str) -> Row:
        from lm_eval.tasks._yaml_loader import load_yaml

        path = self.manager.task_index[name].yaml_path
        return load_yaml(path, resolve_func=False) if path else {}

    def _rows(self, entry: Row, file: Path) -> list[Row]:
        """The rows of a local file, in the task's own columns."""
        form: Callable[[Row], Row] = self._forms[entry["form"]]
        rows = []
        for number, line in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), 1):
            if line.strip():
                try:
                    rows.append(form(json.loads(line)))
                except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                    raise PlanError(
                        f"{file.name} line {number} is no item of '{entry['name']}' ({type(error).__name__}: {error}); "
                        "give the data set's own columns, or question, choices and answer (docs/suites.md)"
                    ) from None
        return rows

    def _parts(self, entry: Row, names: list[str], rows: list[Row], file: Path) -> list[tuple[str, list[Row]]]:
        """[(part, its rows)], each row in one; `subject` goes where the hub has none. PlanError where a row names no part."""
        if len(names) == 1:
            return [(names[0], rows)]

        # A row belongs to the part that its `subject` names.
        subjects = {str(self._config(name).get("dataset_name")): name for name in names}
        by_subject: dict[str, list[Row]] = {}
        for row in rows:
            by_subject.setdefault(str(row.get("subject")), []).append(row)
        if unknown := [subject for subject in by_subject if subject not in subjects]:
            raise PlanError(
                f"{file.name} has rows whose `subject` is no part of lm-eval's task: {', '.join(unknown[:5])}. "
                f"Each row names one of its {len(names)} parts: {', '.join(sorted(subjects)[:5])}, ..."
            )

        # The hub's parts have no such column, but for one configuration that holds them all.
        if "whole" not in entry:
            for part in by_subject.values():
                part[:] = [{name: row[name] for name in row if name != "subject"} for row in part]
        return [(name, by_subject[subject]) for subject, name in subjects.items() if subject in by_subject]

    @property
    def _forms(self) -> dict[str, Callable[[Row], Row]]:
        path = self.suite.folder / self.suite.settings["adapt"]
        spec = importlib.util.spec_from_file_location("lethe_adapt", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return vars(module)

    def how_to_get(self, entry: Row) -> str:
        """One command, for a machine with a network, that writes a task's data as a local file."""
        leaves = self._leaves(entry["name"])
        config = self._config(leaves[0])
        path = config.get("dataset_path")
        split = config.get("test_split") or config.get("validation_split")
        stem = (*entry.get("files", ()), entry["name"])[0]
        if len(leaves) == 1 or "whole" in entry:
            part = entry.get("whole") or config.get("dataset_name")
            name = f", {part!r}" if part else ""
            program = f"import datasets; datasets.load_dataset({path!r}{name}, split={split!r}).to_json('{stem}.jsonl')"
        else:
            program = (
                f"import datasets as d, json, pathlib; path = {path!r}; rows = (r | {{'subject': s}} "
                f"for s in d.get_dataset_config_names(path) for r in d.load_dataset(path, s, split={split!r})); "
                f"pathlib.Path('{stem}.jsonl').write_text(''.join(json.dumps(row) + '\\n' for row in rows))"
            )
        return f'for {entry["name"]} run: python -c "{program}"'


def _source(rows: list[Row]) -> Callable[..., _Splits]:
    """What lm-eval calls for a task's data."""
    return lambda **_: _Splits(Dataset.from_list(rows))


def _unreachable(error: BaseException | None) -> bool:
    """Whether the hub could not be reached."""
    while error is not None:
        if isinstance(error, (ConnectionError, TimeoutError)) or "Connect" in type(error).__name__:
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """No more questions to the hub; what is cached is still found."""
    from unittest.mock import patch

    with patch("datasets.config.HF_HUB_OFFLINE", True), patch("huggingface_hub.constants.HF_HUB_OFFLINE", True):
        yield


SHOWN = 3
"""Faults told of a task: a file of a wrong form has one in every line."""


def unanswerable(task: Drawn) -> list[str]:
    """What is wrong with a task's documents, a few of them named."""
    faults = [(doc["doc"], fault) for doc in task.docs if (fault := _fault(task.leaf(doc), doc["doc"]))]
    sentences = [f"item {str(doc)[:120]} {fault}" for doc, fault in faults[:SHOWN]]
    if len(faults) > SHOWN:
        sentences.append(f"and {len(faults) - SHOWN:,} more items like these")
    return sentences


def _fault(leaf: Any, doc: Any) -> str:
    if leaf.OUTPUT_TYPE == "multiple_choice":
        choices = leaf.doc_to_choice(doc)
        gold = leaf.doc_to_text(doc) if leaf.multiple_input else leaf.doc_to_target(doc)
        right = gold if isinstance(gold, list) else [gold]
        texts = all(isinstance(choice, str) for choice in choices)
        if texts and right and all(_among(choice, choices) for choice in right):
            return ""
        return f"has the label {gold!r} and {len(choices)} choices; give each its right choice, from 0 to {len(choices) - 1}"
    target = leaf.doc_to_target(doc)
    answers = target if isinstance(target, list) else [target]
    return "" if answers and all(str(answer).strip() for answer in answers) else "has no answer; give each item its own"


def _among(gold: Any, choices: list[str]) -> bool:
    return gold in choices if isinstance(gold, str) else isinstance(gold, int) and 0 <= gold < len(choices)
