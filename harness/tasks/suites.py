"""Suites: what is evaluated, as lm-eval tasks with what lm-eval doesn't know about them.

A suite is a bundled name, a folder of lm-eval YAML, a JSONL file or a folder of them (harness/tasks/item_task.py), or the name
of one of lm-eval's own tasks. The user's test records make the domain's tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import mean
from typing import Any

from harness.bundled import SUITES, Suite, find_suites
from harness.errors import PlanError
from harness.files.formats import READERS
from harness.files.item_file import ItemFile, read_item_file
from harness.files.item_row import Doc
from harness.files.sidecar import read_sidecar
from harness.store.opening import stem_of, suffix_of
from harness.tasks.filler import fill
from harness.tasks.item_task import WITHOUT_CHAT, ItemTask, output_type, token_limit
from harness.vocabulary import Area

CHANNELS = {"multiple_choice": "choice", "generate_until": "generation"}
ROOM = {"instructions": 1280, "rules": 128}
"""Tokens to answer with where the answers cannot tell: lm-eval's own for IFEval, a short paragraph for patterns."""
LINES = (".jsonl", ".ndjson")
"""Endings of the files that a folder's suites are."""
FEWSHOT_SEED = 1234
"""lm-eval's own: few-shot examples are those its command line would draw."""


@dataclass(frozen=True)
class EvalTask:
    """One lm-eval task and what it stands for."""

    name: str
    family: str
    """Tasks of one family are averaged first."""
    group: str
    """`domain` or `general`."""
    seen: bool | None
    """Whether methods may draw on this family; None for the domain."""
    channel: str
    """likelihood | choice | generation"""
    metric: str
    """The primary metric."""
    higher_better: bool
    chance: float | None
    """Score of a guess; None: one over the number of choices, item by item."""
    chat: bool
    """Whether prompts go through the chat template."""
    task: Any
    """The lm-eval task."""
    items: int
    note: str = ""
    """What the report should say about how it is scored."""
    suite: str = ""
    """The suite it was asked for as."""
    area: Area = Area.CAN
    """The column group of its family."""
    thinking: bool = False
    """Whether it is asked with thoughts, and scored with them."""
    fluency: bool = False
    """Whether its scorer is told how the base reads an answer."""


@dataclass(frozen=True)
class Reader:
    """What suites must know of the model that reads them."""

    count: Callable[[str], int] | None = None
    """Tells how many tokens a text has: generated answers get no more room than needed."""
    context: int | None = None
    """Tokens that it reads; longer items are left out."""


ANY_MODEL = Reader()
"""Nothing is known of the model: texts are measured in characters, and no item is too long."""


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
    if bundled in suites and "task" in suites[bundled].settings:
        return load_collection(suites[bundled], Path(folder) if folder else None, group)
    if name in suites:
        return _load_folder(suites[name].path("tasks") or suites[name].folder, group, reader)
    path = Path(name)
    if suffix_of(path) in READERS and path.exists() and not path.is_dir():
        return load_jsonl(path, group, reader)
    if path.is_dir():
        return _load_folder(path, group, reader)
    if path.exists() or path.suffix or "/" in name:
        raise PlanError(f"suite '{name}' is no folder and no file that is read ({', '.join(READERS)}); {_accepted(suites)}")
    return load_named(name, group, suites)


def _load_folder(path: Path, group: str, reader: Reader) -> list[EvalTask]:
    """lm-eval YAML where there is any, else every JSONL file that is not another's few-shot examples."""
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


# --- plain files -----------------------------------------------------------------------------------------------------


def load_jsonl(path: Path, group: str = "general", reader: Reader = ANY_MODEL) -> list[EvalTask]:
    """Return a file of items as one task for each kind of item in it."""
    return item_tasks(read_item_file(path), stem_of(path), group, reader)


def item_tasks(file: ItemFile, stem: str, group: str, reader: Reader = ANY_MODEL) -> list[EvalTask]:
    """Return a task for each kind of item in a file that has been read; none of which the model's context holds no item."""
    tasks = []
    notes = [*file.notes]
    for kind, docs in file.kinds.items():
        name = stem if len(file.kinds) == 1 else f"{stem}_{kind}"
        if file.filler:
            docs, left_out = fill(name, docs, file.filler, reader.count, reader.context)
            notes += left_out
        if not docs:
            continue
        limit = _room(kind, docs, file, reader.count)
        options: dict[str, Any] = {
            "limit": limit,
            "until": file.sidecar.until,
            "scorer": file.scorer if kind == "python" else None,
        }
        task = ItemTask(name, kind, docs, shots=file.shots if file.sidecar.shots else None, **options)
        made = as_eval_task(task, file.sidecar.family or stem, group, " ".join([*_how(task, limit, file), *notes]))

        # What only the file's sidecar says; thoughts and fluency are told to a scorer of the user's alone.
        scored = kind == "python"
        made = replace(
            made,
            seen=None if group == "domain" else file.sidecar.seen,
            area=Area(file.sidecar.area) if file.sidecar.area else made.area,
            thinking=file.sidecar.thinking and scored,
            fluency=file.sidecar.fluency and scored,
        )
        tasks.append(made)
        # The notes on a file stand once, at its first task.
        notes = []
    if not tasks:
        raise PlanError(f"no item of {stem} can be asked: {' '.join(notes)}")
    return tasks


def _room(kind: str, docs: Sequence[Doc], file: ItemFile, count: Callable[[str], int] | None) -> int:
    """Return tokens to generate at most: as the sidecar says, else as the answers need; constraints have none to tell."""
    if output_type(kind) != "generate_until":
        return 0
    if file.sidecar.max_tokens:
        return file.sidecar.max_tokens
    if kind in ("instructions", "rules", "python") or any(doc.get("reasoned") for doc in docs):
        return ROOM.get(kind, 256)
    return token_limit(list(chain.from_iterable(doc["targets"] for doc in docs)), count)


def _how(task: ItemTask, limit: int, file: ItemFile) -> list[str]:
    """Return how a task's items are asked and scored, where the report should say so."""
    by = f"by {file.sidecar.scorer}" if task.kind == "python" else f"by {task.metric.replace('_', ' ')}"
    sentences = []
    if limit:
        sentences.append(f"{task.config.task}: answers are generated and scored {by}, at most {limit} tokens each.")
    if file.sidecar.shots:
        sentences.append(f"{task.config.task}: {file.sidecar.shots} examples stand before each item.")
    return sentences


def as_eval_task(task: ItemTask, family: str, group: str, note: str) -> EvalTask:
    """Return a task over items with what its kind says about it."""
    choice = task.OUTPUT_TYPE == "multiple_choice"
    options = [1 / len(doc["choices"]) for doc in task.docs if doc.get("choices")]
    guessed = mean(options) if options and task.metric == "letter" else 0.0
    return EvalTask(
        name=str(task.config.task),
        family=family,
        group=group,
        seen=None if group == "domain" else False,
        channel="likelihood" if task.kind in WITHOUT_CHAT else "choice" if choice else "generation",
        metric=task.metric,
        higher_better=task.higher_is_better()[task.metric],
        chance=None if choice else guessed,
        chat=task.kind not in WITHOUT_CHAT,
        task=task,
        items=len(task.docs),
        note=note,
        area=Area.HOW if task.kind in ("rules", "instructions") else Area.CAN,
    )


logging.getLogger("lm_eval").setLevel(logging.ERROR)  # its warnings speak of options that are ours to choose
