"""A suite that is a file of items, as one task for each kind of item in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import mean
from typing import Any

from harness.errors import PlanError
from harness.files.item_file import ItemFile, read_item_file
from harness.files.item_row import Doc
from harness.store.opening import stem_of
from harness.tasks.eval_task import ANY_MODEL, EvalTask, Reader
from harness.tasks.filler import fill
from harness.tasks.item_task import WITHOUT_CHAT, ItemTask, output_type, token_limit
from harness.vocabulary import Area

ROOM = {"instructions": 1280, "rules": 128}
"""Tokens to answer with where the answers cannot tell: lm-eval's own for IFEval, a short paragraph for patterns."""


def load_jsonl(path: Path, group: str = "general", reader: Reader = ANY_MODEL) -> list[EvalTask]:
    """Return a file of items as one task for each kind of item in it."""
    return item_tasks(read_item_file(path), stem_of(path), group, reader)


def item_tasks(file: ItemFile, stem: str, group: str, reader: Reader = ANY_MODEL) -> list[EvalTask]:
    """Return a task for each kind of item in a file that has been read; none of which the model's context holds no item."""
    tasks = []
    notes = [*file.notes]
    for kind, docs in file.kinds.items():
        name = stem if len(file.kinds) == 1 else f"{stem}_{kind}"
        # Long prompts are made for this tokenizer and context; what does not fit is left out and
        # said.
        if file.filler:
            docs, left_out = fill(name, docs, file.filler, reader.count, reader.context)
            notes += left_out
        if not docs:
            continue

        # No more room than the answers need: decoding costs by token.
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
    # Constraints and programs have no reference answer, and reasons may be long.
    if kind in ("instructions", "rules", "python") or any(doc.get("reasoned") for doc in docs):
        return ROOM.get(kind, 256)
    return token_limit(list(chain.from_iterable(doc["targets"] for doc in docs)), count)


def _how(task: ItemTask, limit: int, file: ItemFile) -> list[str]:
    """Return how a task's items are asked and scored, where the report should say so."""
    by = f"by {file.sidecar.scorer}" if task.kind == "python" else f"by {task.metric.replace('_', ' ')}"
    sentences = []
    if limit:
        sentences.append(f"{task.config.task}: answers are generated and scored {by}, at most {limit} tokens each.")
    # Examples change what is measured, so the report says how many there were.
    if file.sidecar.shots:
        sentences.append(f"{task.config.task}: {file.sidecar.shots} examples stand before each item.")
    return sentences


def as_eval_task(task: ItemTask, family: str, group: str, note: str) -> EvalTask:
    """Return a task over items with what its kind says about it."""
    choice = task.OUTPUT_TYPE == "multiple_choice"
    # A generated letter can be guessed; other generated answers cannot.
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
