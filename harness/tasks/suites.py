"""Suites: what is evaluated, as lm-eval tasks with what lm-eval doesn't know about them.

A suite is a bundled name, a folder of lm-eval YAML, a JSONL file or a folder of them (harness/tasks/item_task.py), or the name
of one of lm-eval's own tasks. The user's test records make the domain's tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.bundled import SUITES, Suite, find_suites
from harness.errors import PlanError
from harness.files.formats import READERS
from harness.files.sidecar import read_sidecar
from harness.store.opening import suffix_of
from harness.tasks.eval_task import CHANNELS, EvalTask, Reader
from harness.tasks.item_suites import load_jsonl
from harness.vocabulary import Area

LINES = (".jsonl", ".ndjson")
"""Endings of the files that a folder's suites are."""
FEWSHOT_SEED = 1234
"""lm-eval's own: few-shot examples are those its command line would draw."""


def load_suite(
    name: str,
    *,
    count: Callable[[str], int] | None = None,
    context: int | None = None,
    group: str = "general",
    root: Path = SUITES,
) -> list[EvalTask]:
    """Return the tasks of a suite, for a model with this tokenizer and context (`Reader`)."""
    reader = Reader(count, context)
    return [replace(task, suite=name) for task in _load_suite(name, reader, group, find_suites(root))]


def _load_suite(name: str, reader: Reader, group: str, suites: Mapping[str, Suite]) -> list[EvalTask]:
    bundled, _, folder = name.partition(":")
    # A suite of lm-eval's tasks may be given a folder of local files for their data.
    if bundled in suites and "task" in suites[bundled].settings:
        return load_collection(suites[bundled], Path(folder) if folder else None, group)
    if name in suites:
        return _load_folder(suites[name].path("tasks") or suites[name].folder, group, reader)
    path = Path(name)
    if suffix_of(path) in READERS and path.exists() and not path.is_dir():
        return load_jsonl(path, group, reader)
    if path.is_dir():
        return _load_folder(path, group, reader)

    # Anything with an ending or a slash was meant as a path.
    if path.exists() or path.suffix or "/" in name:
        raise PlanError(f"suite '{name}' is no folder and no file that is read ({', '.join(READERS)}); {_accepted(suites)}")
    return load_named(name, group, suites)


def _load_folder(path: Path, group: str, reader: Reader) -> list[EvalTask]:
    """Load lm-eval YAML where there is any, else every JSONL file that is not another's few-shot examples."""
    # YAML decides: its tasks name their JSONL files themselves.
    if any(path.rglob("*.yaml")):
        return load_yaml(path, group)
    if files := sorted(file for file in path.iterdir() if suffix_of(file) in LINES):
        examples = {read_sidecar(file).examples for file in files}
        tasks: list[EvalTask] = []
        for file in files:
            if file.name not in examples:
                tasks += load_jsonl(file, group, reader)
        return tasks
    others = sorted(file.name for file in path.iterdir() if suffix_of(file) in READERS)
    cure = f"name {others[0]} itself" if others else "put some there"
    raise PlanError(f"suite '{path}' is a folder with neither .yaml nor .jsonl files in it; {cure}")


def _accepted(suites: Mapping[str, Suite]) -> str:
    names = ", ".join(suites) or "none here"
    return f"give a bundled suite ({names}), a folder of lm-eval YAML or JSONL, a .jsonl file, or an lm-eval task's name"


def load_collection(suite: Suite, folder: Path | None, group: str = "general") -> list[EvalTask]:
    """Return a suite of lm-eval's own tasks (harness/tasks/lm_eval_collection.py), from the hub or from a folder of
    JSONL files.
    """
    from harness.tasks.lm_eval_collection import Collection

    tasks = []
    for entry, task, note in Collection(suite, folder).load():
        names = ("family", "seen", "channel", "chance", "primary", "chat", "area", "fluency")
        facts = {key: entry[key] for key in names if key in entry}
        made = wrap(task, group, facts=facts)
        tasks.append(replace(made, note=f"{note} {made.note}".strip()))
    return tasks


# --- lm-eval's own form --------------------------------------------------------------------------------------------


def load_yaml(folder: Path, group: str = "general") -> list[EvalTask]:
    """Return every task in a folder of lm-eval YAML."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    if not manager.all_subtasks:
        raise PlanError(f"suite '{folder}' defines no lm-eval task; each .yaml needs a `task:` name")
    return [wrap(task, group) for task in _built(manager, list(manager.all_subtasks), str(folder))[0].values()]


def load_named(name: str, group: str, suites: Mapping[str, Suite]) -> list[EvalTask]:
    """Return one of lm-eval's own tasks, groups or tags. Its index takes a quarter of a minute to build."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    if name not in manager.all_tasks:
        raise PlanError(f"suite '{name}' is not known here nor to lm-eval; {_accepted(suites)}")
    tasks, groups = _built(manager, [name], name)
    family = name if name in groups else None
    return [wrap(task, group, family=family) for task in tasks.values()]


def _built(manager: Any, names: list[str], suite: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the loaded tasks and groups; data that is not there stops the plan before any training."""
    try:
        loaded = manager.load(names)
    # Whatever lm-eval raises, the user must know which suite it was and where its data can come
    # from.
    except Exception as error:  # whatever a task's YAML, code or data set raises: the user must know which suite it was
        reason = (str(error).splitlines() or [""])[0]
        cure = "download it once while online (HF_HUB_OFFLINE=0), or give a folder with the same items as .jsonl files"
        raise PlanError(f"suite '{suite}' cannot be loaded ({type(error).__name__}: {reason}); {cure}") from error
    return loaded["tasks"], loaded["groups"]


def wrap(task: Any, group: str = "general", family: str | None = None, facts: Mapping[str, Any] | None = None) -> EvalTask:
    """Return what `facts` or `metadata: {lethe: {...}}` says about an lm-eval task, with the defaults of
    docs/architecture.md.
    """
    facts = facts or ((task.config.metadata or {}) if isinstance(task.config.metadata, dict) else {}).get("lethe", {})

    # lm-eval's own examples, so that scores can be held against published ones.
    task.set_fewshot_seed(FEWSHOT_SEED)
    name = task.config.task
    better = task.higher_is_better()
    primary = facts.get("primary") or next(iter(better))
    choice = task.OUTPUT_TYPE == "multiple_choice"
    group = facts.get("group", group)
    kwargs = task.config.generation_kwargs or {}
    sampled = kwargs.get("do_sample") or float(kwargs.get("temperature") or 0) > 0
    return EvalTask(
        name=name,
        family=facts.get("family", family or name),
        group=group,
        seen=None if group == "domain" else bool(facts.get("seen", False)),
        channel=facts.get("channel", CHANNELS.get(task.OUTPUT_TYPE, "likelihood")),
        metric=primary,
        higher_better=bool(better.get(primary.partition(",")[0], True)),
        chance=facts.get("chance", None if choice else 0.0),
        chat=bool(facts.get("chat", True)),
        task=task,
        items=len(task.eval_docs),
        note=f"{name} asks for sampled answers: they are decoded greedily here." if sampled else "",
        area=Area(facts.get("area", Area.CAN)),
        fluency=bool(facts.get("fluency", False)),
    )


logging.getLogger("lm_eval").setLevel(logging.ERROR)  # its warnings speak of options that are ours to choose
