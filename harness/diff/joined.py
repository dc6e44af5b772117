"""Several tasks as one score: lm-eval's groups, and the mean over all tasks that have a metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.diff.difference import Difference, Draws, estimated, scale_of
from harness.diff.lm_eval_run import LmEvalRun
from harness.diff.pairs import SAME, Aggregate, MetricPairs, TaskPairs


@dataclass(frozen=True)
class Part:
    """One task's share in a joined score."""

    task: TaskPairs
    pairs: MetricPairs
    draws: Draws


def by_metric(parts: Sequence[Part]) -> dict[str, list[Part]]:
    """Return what each metric, `metric,filter`, may be joined from."""
    grouped: dict[str, list[Part]] = {}
    for part in parts:
        grouped.setdefault(f"{part.pairs.metric},{part.pairs.filter}", []).append(part)
    return grouped


def means(parts: dict[str, list[Part]]) -> list[Difference]:
    """Return the mean over tasks of every metric that several tasks have in the same unit, each task weighing the same."""
    differences = []
    for metric in parts.values():
        averaged = [part for part in metric if part.pairs.aggregate is Aggregate.MEAN]
        if len(averaged) > 1 and _alike(averaged):
            differences.append(_joined(f"mean of {len(averaged)} tasks", averaged, by_size=False))
    return differences


Printed = dict[str, dict[str, tuple[float, float]]]
"""Group -> `metric,filter` -> what lm-eval printed for A and for B."""


def groups(parts: dict[str, list[Part]], before: LmEvalRun, after: LmEvalRun) -> tuple[list[Difference], Printed]:
    """Return the groups that both runs have, and lm-eval's printed scores of groups that cannot be computed from samples.

    lm-eval weighs the tasks of a group by their documents, or all alike; the printed score tells which.
    """
    differences: list[Difference] = []
    without: Printed = {}
    for group in before.groups:
        a, b = before.scores.get(group, {}), after.scores.get(group, {})
        # Names without a comma are no scores: aliases, sample counts.
        for name in a:
            if name not in b or "," not in name:
                continue
            difference = _group(group, name, parts.get(name, []), before, after)
            if difference is not None:
                differences.append(difference)
            else:
                without.setdefault(group, {})[name] = (a[name], b[name])
    return differences, without


def _group(group: str, name: str, parts: list[Part], before: LmEvalRun, after: LmEvalRun) -> Difference | None:
    """Return a group's line; None where the tasks differ between the runs, or their samples do not give its score."""
    members = []
    for run in (before, after):
        members.append({task for task in run.groups.get(group, ()) if name in run.scores.get(task, {})})
    # A group is joined from its tasks only where all of them are here and mean the same.
    inside = [part for part in parts if part.task.task in members[0]]
    if members[0] != members[1] or {part.task.task for part in inside} != members[0] or not _alike(inside):
        return None
    # Weighted by size or alike: the way that gives the printed score is the one that lm-eval took.
    for by_size in (True, False):
        difference = _joined(group, inside, by_size)
        printed = [run.scores[group][name] for run in (before, after)]
        joined = [score / difference.scale for score in difference.alone]
        if all(abs(score - value) <= SAME * (1 + abs(value)) for score, value in zip(joined, printed, strict=True)):
            return difference
    return None


def _alike(parts: Sequence[Part]) -> bool:
    """Return whether tasks have the same unit and direction; False where there is none."""
    return len({(scale_of(part.pairs), part.pairs.rising) for part in parts}) == 1


def _joined(title: str, parts: Sequence[Part], by_size: bool) -> Difference:
    """Return the mean over tasks, weighted by their documents or alike; draws of different tasks are independent."""
    shared = [len(part.task.documents) if by_size else 1 for part in parts]
    sizes = [[part.task.sizes[run] if by_size else 1 for part in parts] for run in (0, 1)]
    scale = scale_of(parts[0].pairs)
    before, after = (scale * float(np.average([part.pairs.scores[run] for part in parts], weights=shared)) for run in (0, 1))
    moved = scale * np.average([part.draws[1] - part.draws[0] for part in parts], axis=0, weights=shared)
    alone = [scale * float(np.average([part.pairs.alone[run] for part in parts], weights=sizes[run])) for run in (0, 1)]
    first = parts[0].pairs
    return Difference(
        task=title,
        metric=first.metric,
        filter=first.filter,
        rising=first.rising,
        scale=scale,
        before=before,
        after=after,
        change=estimated(after - before, moved, sum(len(part.pairs.places) for part in parts)),
        alone=(alone[0], alone[1]),
        lost=None,
        won=None,
        mcnemar=math.nan,
    )
