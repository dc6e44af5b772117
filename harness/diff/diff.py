"""All that differs between two runs of lm-eval."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from harness.diff.difference import Difference, difference_of, drawn_scores
from harness.diff.joined import Part, Printed, by_metric, groups, means
from harness.diff.lm_eval_run import LmEvalRun
from harness.diff.pairs import TaskPairs, task_pairs
from harness.errors import PlanError


@dataclass(frozen=True)
class Diff:
    """All differences of two runs."""

    names: tuple[str, str]
    tasks: tuple[TaskPairs, ...]
    differences: tuple[Difference, ...]
    groups: tuple[Difference, ...]
    """lm-eval's groups, their tasks weighted as lm-eval does."""
    means: tuple[Difference, ...]
    """Of a metric that several tasks have, the mean over these tasks."""
    only: tuple[tuple[str, ...], tuple[str, ...]]
    """Tasks of A alone, and of B alone."""
    without_interval: Printed
    """What lm-eval printed of groups that the tasks' samples do not give."""
    notes: tuple[str, ...]


def diff(before: LmEvalRun, after: LmEvalRun) -> Diff:
    """Compare two runs. Raises PlanError where they share no document."""
    shared = [task for task in before.samples if task in after.samples]
    only = (
        tuple(task for task in before.samples if task not in after.samples),
        tuple(task for task in after.samples if task not in before.samples),
    )
    # Only documents that both runs asked can be compared.
    tasks = tuple(task_pairs(task, before, after) for task in shared)
    if not any(task.documents for task in tasks):
        lists = f"A has {', '.join(before.samples)}; B has {', '.join(after.samples)}"
        raise PlanError(f"the two runs share no document, so nothing can be paired: {lists}; give two runs of the same tasks")
    notes = [*before.notes, *after.notes, *chain.from_iterable(task.notes for task in tasks)]

    parts = []
    for task in tasks:
        if not task.documents:
            continue
        for pairs, draws in zip(task.metrics, drawn_scores(task), strict=True):
            if len(pairs.places):
                parts.append(Part(task, pairs, draws))
    # Tasks first, then what they are parts of: groups of lm-eval, and means over tasks with one metric.
    differences = [difference_of(part.task, part.pairs, part.draws) for part in parts]
    joinable = by_metric(parts)
    grouped, without = groups(joinable, before, after)
    return Diff(
        names=(before.name, after.name),
        tasks=tasks,
        differences=tuple(differences),
        groups=tuple(grouped),
        means=tuple(means(joinable)),
        only=only,
        without_interval=without,
        notes=tuple(dict.fromkeys(notes)),
    )
