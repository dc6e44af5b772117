"""Every file of the phantom but the base itself: tasks and their items, general data, the domain."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from suites.phantom import finance, world
from suites.phantom.words import Item, stream

HERE = Path(__file__).resolve().parent
N_POOL, N_DEV = 3000, 200

TASK = """\
task: phantom_{task}
tag: phantom_{group}
custom_dataset: !function load.items
dataset_kwargs:
  file: {task}.jsonl
test_split: test
{body}metadata:
  version: 1.0
  lethe:
    family: {family}
    area: {area}
    seen: {seen}
    channel: {channel}
    chance: {chance}
    primary: {primary}
    chat: {chat}
"""
GENERATION = """\
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["<|im_end|>"]
  max_gen_toks: {tokens}
  do_sample: false
  temperature: 0.0
{scoring}"""
CHOICE = """\
output_type: multiple_choice
doc_to_text: "{text}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
target_delimiter: ""
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
EXACT = """\
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""
STORY = """\
process_results: !function load.story
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


def doc(name: str, i: int, item: Item) -> dict[str, Any]:
    """An item as a row of a task."""
    key = f"{name}-{i:03d}"
    return {"id": key, "question": item.question, "answer": item.answer, "cluster": item.entity or key}


def with_choices(row: dict[str, Any], item: Item, n: int) -> dict[str, Any]:
    """The same row with its options, the right one anywhere among them."""
    options = [item.answer, *item.wrong[: n - 1]]
    stream("choices", row["id"]).shuffle(options)
    return {**row, "choices": options}


def lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """A JSON list, a record a line."""
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n"


def masks(truth: Mapping[str, Any]) -> str:
    """A JSON object, a record a line."""
    return "{\n" + ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in truth.items()) + "\n}\n"


def yaml(task: str, family: str, body: str, channel: str, chance: float, chat: bool = True) -> str:
    """The lm-eval task file of one task."""
    seen = world.FAMILIES[family].seen
    primary = "exact_match" if "exact_match" in body else "acc"
    return TASK.format(
        task=task,
        group="seen" if seen else "held_out",
        body=body,
        family=family,
        area=world.FAMILIES[family].area,
        channel=channel,
        seen=str(seen).lower(),
        chance=chance,
        primary=primary,
        chat=str(chat).lower(),
    )


def task_files() -> dict[str, str]:
    """Paths and contents of all general tasks."""
    out = {}
    for name, family in world.FAMILIES.items():
        items = world.test_items(name, finance.SUPERSEDED)
        rows = [doc(name, i, item) for i, item in enumerate(items)]
        body = GENERATION.format(tokens=family.tokens, scoring=STORY if name == "story" else EXACT)
        out[f"tasks/{name}.yaml"] = yaml(name, name, body, "generation", 0.0)
        out[f"tasks/items/{name}.jsonl"] = lines(rows)
        if family.choice:
            body = CHOICE.format(text="{{question}}")
            out[f"tasks/{name}_choice.yaml"] = yaml(f"{name}_choice", name, body, "choice", 1 / family.choice)
            out[f"tasks/items/{name}_choice.jsonl"] = lines(
                with_choices(row, item, family.choice) for row, item in zip(rows, items, strict=False)
            )
    pairs = world.grammar_pairs()
    out["tasks/grammar_pairs.yaml"] = yaml("grammar_pairs", "grammar", CHOICE.format(text=""), "likelihood", 0.5, chat=False)
    out["tasks/items/grammar_pairs.jsonl"] = lines(with_choices(doc("pair", i, p), p, 2) for i, p in enumerate(pairs))
    tasks = sorted(Path(p).stem for p in out if p.endswith(".yaml"))
    out["tasks/phantom.yaml"] = (
        "group: phantom\ntask:\n" + "".join(f"  - phantom_{t}\n" for t in tasks) + "metadata:\n  version: 1.0\n"
    )
    return out


def data_files() -> dict[str, str]:
    """Paths and contents of the general pool and the domain."""
    train, truth, test = finance.build()
    pool = world.pool("train", N_POOL, stream("pool"), finance.SUPERSEDED)
    dev = world.pool("dev", N_DEV, stream("pool", "dev"), finance.SUPERSEDED)
    return {
        "general.json": table(pool),
        "general_dev.json": table(dev),
        "data/finance.json": table(train),
        "data/finance.test.json": table(test),
        "data/finance.truth.json": masks(truth),
    }


def contents() -> dict[str, str]:
    """All of it: path below this folder -> text."""
    return {**task_files(), **data_files()}


def write() -> int:
    """Write every file that is not already so."""
    for path, text in contents().items():
        target = HERE / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return len(contents())
