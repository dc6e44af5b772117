"""Item rows: from lm-eval's samples of one task to rows with one score each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import sacrebleu
from lm_eval.api.task import ConfigurableTask

from harness.evaluation.lm_eval_model import Generated
from harness.evaluation.prepared_task import Prepared
from harness.store.schema import ITEM_COLUMNS, ItemRow
from harness.text import choice_calibration, text_quality


def task_rows(task: Prepared, samples: Sequence[Mapping[str, Any]]) -> Iterator[ItemRow]:
    """Yield the rows of one task: its metrics under every filter, and the quality of what was generated."""
    spec = task.spec
    first_filter = task.filters[0].name
    for sample in samples:
        # The columns that all rows of the item share.
        index = sample["doc_id"]
        fixed: ItemRow = {"task": spec.name, "family": spec.family, "group": spec.group, "seen": spec.seen}
        fixed |= {"item": task.ids[index], "cluster": _cluster(task, index)}
        for row in _metric_rows(task, sample, first_filter):
            yield fixed | row
        # what follows does not depend on the filter, so it is measured once per item
        if sample["filter"] != first_filter:
            continue
        if task.task.OUTPUT_TYPE == "multiple_choice":
            nats, gold = _options(task, sample)
            for metric, value in choice_calibration.measure(nats, gold).items():
                yield fixed | _secondary("calibration", metric, value, choice_calibration.METRICS[metric])
        text = sample["resps"][0][0]
        if isinstance(text, Generated):
            for metric, value in text_quality.measure(text, text.tokens, text.stopped).items():
                yield fixed | _secondary("degeneration", metric, value, text_quality.METRICS[metric])


def _metric_rows(task: Prepared, sample: Mapping[str, Any], first_filter: str) -> Iterator[ItemRow]:
    """Yield a row for each of the task's own metrics; the primary one also holds the texts."""
    spec = task.spec
    better = task.task.higher_is_better()
    # a suite may name the first filter beside its metric ("acc,none"), or leave it out
    primary_name = spec.metric.removesuffix(f",{first_filter}")
    for metric in sample["metrics"]:
        value = item_score(metric, sample[metric])
        if value is None:
            continue
        name = metric if sample["filter"] == first_filter else f"{metric},{sample['filter']}"
        primary = name == primary_name
        row: ItemRow = {"channel": spec.channel, "metric": name, "primary": primary, "score": value}
        row["higher_better"] = better.get(metric, True)
        row["chance"] = 0.0
        if primary:
            row["chance"] = task.chance(sample["doc_id"])
            row |= _texts(task, sample)
        yield row


def _secondary(channel: str, metric: str, value: float, higher_better: bool | None) -> ItemRow:
    """Return the columns of a measure that no task declares: never primary, and without a chance level."""
    row: ItemRow = {"channel": channel, "metric": metric, "primary": False, "score": value}
    return row | {"chance": 0.0, "higher_better": higher_better}


def item_score(metric: str, value: Any) -> float | None:
    """Return one number per item, or None for metrics that exist only over a corpus (F1 over classes, BLEU)."""
    # Perplexity is an average over a corpus, and cannot be paired by item.
    if isinstance(value, (bool, int, float, np.number)):
        return None if metric == "perplexity" else float(value)
    if metric == "chrf":  # of each sentence; lm-eval's is of the corpus
        reference, output = value
        return sacrebleu.sentence_chrf(str(output), [str(reference)]).score / 100
    # nats and bytes of a text; a sum over texts is lm-eval's own number.
    if metric == "bits_per_byte":
        nats, size = value
        return -nats / size / float(np.log(2))
    # The distance of the probabilities from certainty of the right option.
    if metric == "brier_score":
        gold, probabilities = value
        target = np.eye(len(probabilities))[gold]
        return float(((np.asarray(probabilities) - target) ** 2).sum())
    return None


def _texts(task: Prepared, sample: Mapping[str, Any]) -> ItemRow:
    """Return prompt, output and target, as read by people."""
    prompt = sample["arguments"][0][0]
    output = sample["resps"][0][0]
    target = sample["target"]
    if task.task.OUTPUT_TYPE == "multiple_choice":
        choices = task.task.doc_to_choice(sample["doc"])
        # where prompts differ, the choices are in the prompts
        prompts = [arguments[0] for arguments in sample["arguments"]]
        if len(set(prompts)) > 1:
            choices = prompts
        nats = [answer[0][0] for answer in sample["resps"]][: len(choices)]
        output = choices[int(np.argmax(nats))]
        if isinstance(target, int) and target < len(choices):
            target = choices[target]
    elif not isinstance(output, str):
        # a likelihood has no text to show, and a rolling one has no prompt either
        output = ""
        if task.task.OUTPUT_TYPE == "loglikelihood_rolling":
            prompt = ""
    return {"prompt": str(prompt), "output": str(output), "target": str(target)}


def _options(task: Prepared, sample: Mapping[str, Any]) -> tuple[list[float], int | None]:
    """Return the nats of each option and the index of the right one; None where the task does not give an index."""
    choices = task.task.doc_to_choice(sample["doc"])
    nats = [answer[0][0] for answer in sample["resps"]][: len(choices)]
    # lm-eval's own tasks compute the target; ours hold it in the document
    computed = isinstance(task.task, ConfigurableTask)
    gold = task.task.doc_to_target(sample["doc"]) if computed else sample["doc"].get("answer")
    if isinstance(gold, str):
        gold = choices.index(gold) if gold in choices else None
    if isinstance(gold, int) and 0 <= gold < len(nats):
        return nats, gold
    return nats, None


def _cluster(task: Prepared, index: int) -> str:
    """Return the cluster that an item declares; its own id where it declares none."""
    # Items that share a source are resampled together.
    doc = task.docs[index]
    declared = doc.get("cluster") if isinstance(doc, Mapping) else None
    return str(declared or task.ids[index])


def frame_of(rows: Sequence[Mapping[str, Any]], fraction: float, alpha: float) -> pd.DataFrame:
    """Return rows as a table with the columns and types of `ITEM_COLUMNS`."""
    frame = pd.DataFrame(rows, columns=list(ITEM_COLUMNS))
    return frame.assign(fraction=fraction, alpha=alpha).astype(dict(ITEM_COLUMNS))


def headline(scores: pd.DataFrame) -> dict[str, float]:
    """Return {domain, retention}: macro means of the primary scores, for decisions on dev items.

    Tasks are averaged within a family first, then families within a group. Tasks where lower is better have another
    scale and stay out. NaN where a group has no items.
    """
    # Metrics where less is better, and those without a direction, cannot be averaged with the
    # others.
    primary = scores["primary"].astype(bool)
    rising = scores["higher_better"].fillna(False).astype(bool)
    counted_scores: Any = scores[primary & rising]

    # Tasks first, then families, so that a family with many tasks does not weigh more.
    tasks: Any = counted_scores.groupby(["group", "family", "task"], as_index=False)["score"].mean()
    families: Any = tasks.groupby(["group", "family"], as_index=False)["score"].mean()
    domain = families.loc[families["group"] == "domain", "score"].mean()
    general = families.loc[families["group"] == "general", "score"].mean()
    return {"domain": float(domain), "retention": float(general)}
