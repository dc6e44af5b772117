"""The domain's tasks: the user's test records, scored by what fits their answers, or as `domain_metric` asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness import scoring
from harness.errors import PlanError, raise_faults
from harness.items import ItemTask, token_limit
from harness.numbers import numbers
from harness.records import Record
from harness.scoring import Asked
from harness.tasks import EvalTask, as_eval_task
from harness.thoughts import split_thoughts

LEAST_ITEMS = 20
MOST_KINDS = 12
THOUGHTS = 1024
"""Tokens more for answers that begin with thoughts: a guess."""
UNREADABLE = 0.1
"""Share of answers that may hold no number (no choice) where a metric that needs one is asked for."""


def domain_tasks(
    records: Sequence[Record],
    template: Any,
    cluster_of: Mapping[str, str],
    name: str = "domain",
    asked: Mapping[str, Asked] | None = None,
) -> list[EvalTask]:
    """The test records as generation tasks: the last answer is the target, all before it the prompt.

    One task for each kind the file names; without kinds, for each form of answer (letter, number, label, text). The metric
    is picked from the answers, unless `asked` names one for the kind, or under "" for all others. (The held-out loss of the
    same records is measured with the drift.) Plain texts make one task more: bits per byte, lower is better.
    """
    tasks = []
    if texts := [_text_doc(record, cluster_of) for record in records if record.text]:
        title = f"{name}_bits_per_byte"
        tasks.append(replace(as_eval_task(ItemTask(title, "text", texts), title, "domain", ""), suite=name))
    answered = [record for record in records if _place(record) > 0]
    asked, faults = asked or {}, list[str]()
    for kind, part in _kinds(answered).items():
        targets = [_target(record) for record in part]
        picked = scoring.pick_metric(targets, [record.choices for record in part])
        wanted = asked.get(kind, asked.get("", Asked(picked)))
        metric = wanted.metric
        faults += _unfit(metric, kind or name, targets, part)
        docs = [_doc(record, template, cluster_of) | wanted.measure for record in part]
        limit = token_limit(targets, lambda text: len(template.tokenizer(text)["input_ids"]))
        limit += THOUGHTS if template.thinking else 0
        title = "_".join(filter(None, (name, kind if kind != metric else "", metric)))
        why = "picked from the data" if wanted == Asked(picked) else "as domain_metric asks"
        how = "".join(f", {key} {value}" for key, value in wanted.measure.items())
        note = f"{title}: {len(docs):,} generated answers scored by {metric.replace('_', ' ')}{how}, {why}."
        task = ItemTask(title, metric, docs, rendered=True, limit=limit)
        tasks.append(replace(as_eval_task(task, title, "domain", note), suite=name))
    raise_faults(faults)
    return tasks


def read_asked(text: str | None, kinds: Sequence[str | None] = ()) -> dict[str, Asked]:
    """`domain_metric` by kind of record. Raises PlanError where it names a kind that no record has."""
    asked = scoring.read_metrics(text or "")
    known = {kind for kind in kinds if kind}
    unknown = [kind for kind in asked if kind and kind not in known]
    if unknown and kinds:
        names = ", ".join(sorted(known)[:MOST_KINDS]) or "none"
        raise PlanError(f"domain_metric names the kind '{unknown[0]}', but the data's kinds are {names}")
    return asked


def _unfit(metric: str, kind: str, targets: Sequence[str], records: Sequence[Record]) -> list[str]:
    """A fault where the answers are not what a metric compares: every output would be wrong."""
    if metric == "numeric":
        bad, what = sum(not numbers(target) for target in targets), "hold no number"
    elif metric == "letter":
        named = [scoring.choice_letter(t, r.choices or ()) for t, r in zip(targets, records, strict=True)]
        bad, what = named.count(None), "name no choice"
    else:
        return []
    too_many = bad > UNREADABLE * len(targets)
    return [f"domain_metric '{metric}' does not fit {kind}: {bad:,} of {len(targets):,} answers {what}"] if too_many else []


def _place(record: Record) -> int:
    """Where the last assistant turn stands; -1 where none does."""
    return max((i for i, turn in enumerate(record.messages) if turn.role == "assistant"), default=-1)


def _target(record: Record) -> str:
    """The last answer, as it is scored: without thoughts."""
    return split_thoughts(record.messages[_place(record)].content)[1]


def _doc(record: Record, template: Any, cluster_of: Mapping[str, str]) -> dict[str, Any]:
    place = _place(record)
    return {
        "id": record.id,
        "prompt": template.prompt(record.messages[:place]),
        "targets": [_target(record)],
        "choices": list(record.choices or ()),
        "cluster": cluster_of.get(record.id, record.id),
    }


def _text_doc(record: Record, cluster_of: Mapping[str, str]) -> dict[str, Any]:
    return {"id": record.id, "prompt": "", "targets": [record.text], "cluster": cluster_of.get(record.id, record.id)}


def _kinds(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by kind, at least 20 each where there are as many; rarer ones go by the form of their answer, then together."""
    named = {kind for kind in {r.kind for r in records} if kind and sum(r.kind == kind for r in records) >= LEAST_ITEMS}
    named = named if len(named) <= MOST_KINDS else set()
    groups: dict[str, list[Record]] = {}
    for record in records:
        form = scoring.pick_metric([_target(record)], [record.choices])
        groups.setdefault(record.kind if record.kind and record.kind in named else form, []).append(record)
    small = [kind for kind, part in groups.items() if len(part) < LEAST_ITEMS]
    if small and len(groups) > 1:
        rest = [record for kind in small for record in groups.pop(kind)]
        home = "" if len(rest) >= LEAST_ITEMS or not groups else max(groups, key=lambda kind: len(groups[kind]))
        groups.setdefault(home, []).extend(rest)
    return dict(sorted(groups.items()))
