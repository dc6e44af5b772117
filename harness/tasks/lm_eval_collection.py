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
    parts = ["mgsm_direct_zh"]     # tasks or groups to take of it; default: all
    hub, config, split             # where its rows come from, if it is no task of lm-eval: such entries are read from
    scorer = "file.py:function"    # local files only, and their generated answers are scored by a function of ours
    licence = "CC-BY-4.0"          # of the data, said in the report
    overrides = {}                 # of lm-eval's settings
    optional = true                # what the hub does not give of it is left out, and said, and does not stop the plan

`standard` takes the data from the hub (or its cache), `standard:FOLDER` from JSONL files: the same tasks, with the same
prompts and scores. What a folder lacks is named in a note, with how to get it; what the hub does not give stops the plan.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from itertools import chain
from pathlib import Path
from typing import Any

from harness.bundled import Suite, find_suites, for_own_models
from harness.errors import PlanError, raise_faults
from harness.files.instructions import ifeval_item, known, left_out, steady, unrunnable
from harness.files.sidecar import load_scorer
from harness.tasks.answerable import unanswerable
from harness.tasks.downloads import Source, download
from harness.tasks.hub_access import offline, quiet, unreachable
from harness.tasks.item_task import ItemTask
from harness.tasks.local_rows import Form, Row, dataset_loader, read_rows, rows_by_part
from harness.tasks.subset import Drawn, DrawnDoc, drawn, gathered

ALLOWED = "HF_ALLOW_CODE_EVAL"
"""The variable by which Hugging Face's `code_eval` is allowed to run code."""
RUNS = (
    "suite '{suite}' runs the code that models write, on this machine and as you: set HF_ALLOW_CODE_EVAL=1 where that is safe"
    " (a container without secrets or a network), or take the suite 'code', which runs nothing"
)


class Collection:
    """The tasks of one suite.toml."""

    def __init__(self, suite: Suite, folder: Path | None) -> None:
        from lm_eval import tasks

        self.suite = suite
        self.folder = folder
        if suite.settings.get("executes") and os.environ.get(ALLOWED) != "1":
            raise PlanError(RUNS.format(suite=suite.name))
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

    def load(self) -> list[tuple[Row, Any, str]]:
        """Return [(entry, task, what the report must say)].

        Raises PlanError with every data set that is missing and how to get it.
        """
        loaded: list[tuple[Row, Any, str]] = []
        faults: list[str] = []
        missing: list[Row] = []
        left_out: list[str] = []
        is_offline = False
        with contextlib.ExitStack() as stack:
            for entry in self.entries:
                if "scorer" in entry and self.folder is None:
                    continue
                file = self._file(entry)
                if self.folder is not None and file is None:
                    missing.append(entry)
                    continue
                self.notes = []
                try:
                    task = self._own(entry, file) if "scorer" in entry else self._task(entry, file)
                    loaded.append((entry, task, " ".join(self.notes)))
                except PlanError as error:
                    faults += error.faults
                except Exception as error:  # whatever the hub, a data set or lm-eval's code raises
                    # What came later to a suite must not stop those who cannot get it from the hub. A local file is wrong.
                    forgivable = self.folder is None and entry.get("optional")
                    (left_out if forgivable else faults).append(self._failed(entry, error))
                    if unreachable(error):
                        # Each further task would wait a minute for the network; the cache may hold it all the same.
                        stack.enter_context(offline())
                        is_offline = True

        # Without a network, what helps soonest is to ask something else.
        if faults and is_offline:
            suites = find_suites()
            shipped = " ".join(name for name in for_own_models() if "task" not in suites[name].settings)
            faults.append(f"the hub cannot be reached from here: give SUITES='{shipped}', whose items come with Lethe")

        # A folder that lacks some tasks is measured without them, and the report says so; one that lacks all is a mistake.
        raise_faults(faults or ([self._lacks(missing)] if missing and not loaded else []))
        sentences = [f"Left out: {sentence}." for sentence in left_out] + ([self._lacks(missing)] if missing else [])
        if sentences:
            entry, task, note = loaded[0]
            loaded[0] = (entry, task, " ".join([note, *sentences]).strip())
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
        names = self.parts_of(entry)
        overrides = dict(entry.get("overrides", {}))
        if file is None:
            leaves = [self.build(name, overrides) for name in names]
        else:
            subjects = {name: self._subject(name) for name in names} if len(names) > 1 else dict.fromkeys(names, "")
            parts = rows_by_part(self._rows(entry, file), subjects, file, has_subject="whole" in entry)
            leaves = self._local(parts, overrides)
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

    def _local(self, parts: list[tuple[str, list[Row]]], overrides: Row) -> list[Any]:
        """Return the tasks over rows of a local file. Those that share rows take some each; one that takes none is left out."""
        leaves = []
        for name, rows in parts:
            try:
                leaves.append(self.build(name, overrides | {"custom_dataset": dataset_loader(rows)}))
            except IndexError:  # lm-eval reads the first document of a task when it is made
                if len(parts) == 1:
                    raise
        return leaves

    def _own(self, entry: Row, file: Path | None) -> ItemTask:
        """Return a task that lm-eval does not have: prompts of a local file, whose generated answers our scorer reads."""
        assert file is not None
        text, _, function = entry["scorer"].rpartition("/")
        scorer = load_scorer(function, self.suite.folder / text)
        docs: list[Row] = []
        for row in self._rows(entry, file):
            metrics = scorer.try_on(row, file.name)
            common = {"id": str(len(docs)), "cluster": "", "prompt": row["question"], "targets": [""], "row": row}
            docs.append(common | {"metrics": metrics, "source": scorer.source})
        if not docs:
            raise PlanError(f"{file.name} has no row for '{entry['name']}'; give the data set's own columns (docs/suites.md)")
        chosen = drawn(
            entry["name"], [DrawnDoc(leaf=0, doc=doc, cluster="") for doc in docs], entry.get("size", len(docs)), self.seed
        )
        self.notes.append(f"{entry['name']}: {len(chosen):,} of {len(docs):,} prompts of {file.name} ({entry['licence']}).")
        return ItemTask(entry["name"], "python", [doc["doc"] for doc in chosen], limit=entry["tokens"], scorer=scorer)

    def _runnable(self, name: str, docs: list[DrawnDoc]) -> list[DrawnDoc]:
        """Return the documents whose checkers run here; the others are counted in a note."""
        reasons = [unrunnable(ifeval_item(doc["doc"])) for doc in docs]
        self.notes += left_out(name, reasons)
        return [doc for doc, reason in zip(docs, reasons, strict=True) if not reason]

    def build(self, name: str, overrides: Row) -> Any:
        index = self.manager.task_index
        with quiet():  # a progress bar for each part that takes some of the rows
            return self.manager._factory.build(index[name], overrides=overrides, registry=index)

    def parts_of(self, entry: Row) -> list[str]:
        """Return the names of the tasks that an entry asks for."""
        return list(chain.from_iterable(map(self._leaves, entry.get("parts", [entry["name"]]))))

    def _subject(self, name: str) -> str:
        """Return what rows of a local file call a task's part: the hub's configuration, or its split where there is
        one only.
        """
        config = self._config(name)
        return str(config.get("dataset_name") or config.get("test_split"))

    def _leaves(self, name: str) -> list[str]:
        """Return the names of the tasks that a task, group or tag stands for."""
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
        """Return the rows of a local file, in the task's own columns."""
        return read_rows(file, self.forms[entry["form"]], entry["name"])

    @property
    def forms(self) -> dict[str, Form]:
        path = self.suite.folder / self.suite.settings["adapt"]
        spec = importlib.util.spec_from_file_location("lethe_adapt", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return vars(module)

    def how_to_get(self, entry: Row) -> str:
        """Return one command, for a machine with a network, that writes a task's data as a local file."""
        if "hub" in entry:
            return download(entry, [Source(entry["hub"], entry.get("config"), entry["split"], "")])
        sources = []
        for leaf in self.parts_of(entry):
            config = self._config(leaf)
            split = str(config.get("test_split") or config.get("validation_split"))
            sources.append(Source(str(config.get("dataset_path")), config.get("dataset_name"), split, self._subject(leaf)))
        return download(entry, sources)
