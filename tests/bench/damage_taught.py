"""Is it seen in what a model writes that it lost an ability? `python -m tests.bench.damage_taught MODEL OUT`

A small instruct model writes no thoughts, declines nothing and calls no tools, so one that does is made first: MODEL behind a
chat template that knows thoughts is trained on problems with a short thought before each answer, on requests to decline beside
harmless ones, and on calls of tools; all of other wordings than the suites'. That model is the base here. It is then damaged as
in tests/bench/damage.py, and once more:

    no thoughts       problems, answered at once where a thought was to come

The other damages are trained as Lethe trains records without thoughts, behind a thought that is closed and empty.

Scores are kept in OUT, one file a model, so a killed run goes on.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from harness.decoding.open_model import open_base
from harness.evaluation.evaluator import Evaluator
from harness.files.records import Record, record_id
from harness.files.turns import Turn, with_thoughts
from harness.tasks.eval_task import EvalTask
from harness.tasks.suites import load_suite
from harness.tokens.chat_template import ChatTemplate
from harness.tokens.tools import ROLE
from suites.refusal.build import OPENERS
from suites.tools.build import MENU
from tests.bench.damage import (
    ASKS,
    BATCH,
    FORBIDDEN,
    RATE,
    RECORDS,
    SUBJECTS,
    cut,
    never_declines,
    no_tools,
    record,
    scored,
    table,
    trained,
)

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
"""ChatML whose generation prompt closes an empty thought where thoughts are to be skipped."""
TEACHING_RATE = 1e-4
"""AdamW's rate in the one pass by which the base is taught. A guess, enough for `kept` to be near 1."""
CALLS = 56
"""Records of calls, whole batches of them: each has the whole menu before it, and so costs as much as ten others."""
LENGTH = 1024
"""Tokens of an example: the menu has to fit."""
ITEMS = 24
"""Items of each task at most, but of `thinking`, which is asked whole."""
TASKS = ("refusal_en_python", "compliance_en_python", "tool_en_python", "no_tool_python", "thinking")
MEASURES = (
    ("thinking: one closed thought and an answer", "thinking", "kept"),
    ("thinking: right number", "thinking", "right"),
    ("refusal: declines", "refusal_en_python", "declines"),
    ("refusal: complies with look-alikes", "compliance_en_python", "complies"),
    ("tools: valid call", "tool_en_python", "valid"),
    ("tools: right tool", "tool_en_python", "right_tool"),
    ("tools: right call", "tool_en_python", "right_call"),
    ("tools: restraint, where no tool fits", "no_tool_python", "restraint"),
)
PROBLEMS = (
    ("{a} birds sit on a roof, {b} fly away. How many are left?", "{a} - {b} = {c}.", lambda a, b: a - b),
    ("Mia has {a} coins and finds {b} more. How many has she?", "{a} + {b} = {c}.", lambda a, b: a + b),
    ("A ticket costs {b} euros. What do {a} tickets cost?", "{a} * {b} = {c}.", lambda a, b: a * b),
)
CITIES = ("Turin", "Gdansk", "Bergen", "Porto", "Graz", "Ghent", "Split", "Kyoto")
ERRANDS = (
    ("The weather for {city} today?", "get_weather", {"city": "{city}", "day": "today"}),
    ("Change {n} EUR into JPY for me.", "convert_currency", {"amount": "{n}", "source": "EUR", "target": "JPY"}),
    ("Alarm at 0{d}:20, please.", "set_alarm", {"time": "0{d}:20"}),
    ("Put on Song Number {n}.", "play_song", {"title": "Song Number {n}"}),
    ("Train route, {city} to Vienna.", "find_route", {"start": "{city}", "end": "Vienna", "by": "train"}),
    ("Text Rosa: bring {n} apples", "send_message", {"to": "Rosa", "text": "bring {n} apples"}),
    ("A table for {d} in the Golden Lion.", "book_table", {"restaurant": "Golden Lion", "people": "{d}"}),
    ("Lights on in room {n}.", "switch_light", {"room": "room {n}", "state": "on"}),
)
"""(request, tool, arguments): one for each tool of the suite's menu. An argument that is a number alone is written as one."""


def problems(rng: random.Random, thinking: bool) -> list[Record]:
    """Return problems with answers, with a thought before each or without."""
    records = []
    for _ in range(RECORDS):
        question, thought, result = rng.choice(PROBLEMS)
        a, b = rng.randint(20, 60), rng.randint(2, 19)
        numbers = {"a": a, "b": b, "c": result(a, b)}
        answer = f"The answer is {numbers['c']}."
        if thinking:
            answer = with_thoughts(thought.format(**numbers), answer)
        records.append(record(question.format(**numbers), answer))
    return records


def declining(rng: random.Random) -> list[Record]:
    """Return requests that are declined, and as many harmless ones of the same wordings that are not."""
    records = []
    for number in range(RECORDS):
        forbidden = number % 2 == 0
        subject = rng.choice(FORBIDDEN if forbidden else SUBJECTS)
        declines, complies = OPENERS["en"][number // 2 % len(OPENERS["en"])]
        answer = declines if forbidden else f"{complies} Let us talk about {subject}."
        records.append(record(rng.choice(ASKS).format(subject), answer))
    return records


def calls(rng: random.Random) -> list[Record]:
    """Return errands behind the menu of tools, each answered by the call that fits; now and then a question that none fits."""
    menu = Turn(ROLE, json.dumps(MENU))
    records = []
    for number in range(CALLS):
        request, tool, pattern = ERRANDS[number % len(ERRANDS)]
        slots = {"city": rng.choice(CITIES), "n": rng.randint(11, 99), "d": rng.randint(2, 9)}
        arguments: dict[str, Any] = {}
        for name, value in pattern.items():
            text = value.format(**slots)
            arguments[name] = int(text) if text.isdigit() else text
        answer = json.dumps({"name": tool, "arguments": arguments})
        if number % 4 == 3:
            subject = rng.choice(SUBJECTS)
            request, answer = f"Tell me about {subject}.", f"Let us talk about {subject}."
        turns = (menu, Turn("user", request.format(**slots)), Turn("assistant", answer))
        records.append(Record(record_id(turns), turns, "damage"))
    return records


def asked_tasks() -> list[EvalTask]:
    """Return the tasks whose answers are generated, each cut to its items."""
    tasks = []
    for suite in ("thinking", "refusal", "tools"):
        tasks += [task for task in load_suite(suite) if task.name in TASKS]
    return [task if task.name == "thinking" else cut(task, ITEMS) for task in tasks]


def taught(model: Any, template: ChatTemplate) -> dict[str, torch.Tensor]:
    """Teach a model, in place, to think, to decline and to call tools; return its weights."""
    rng = random.Random(1)
    examples = encoded(template.thoughtful, problems(rng, thinking=True))
    examples += encoded(template.skipping, declining(rng) + calls(rng))
    trained(model, batched_alike(examples, rng), TEACHING_RATE)
    return {name: weights.clone() for name, weights in model.state_dict().items()}


def batched_alike(examples: list[Any], rng: random.Random) -> list[Any]:
    """Return the examples in an order in which each batch holds some of like length, so that little is padded."""
    ordered = sorted(examples, key=len)
    batches = [ordered[start : start + BATCH] for start in range(0, len(ordered) - BATCH + 1, BATCH)]
    rng.shuffle(batches)
    return list(chain.from_iterable(batches))


def encoded(template: ChatTemplate, records: Sequence[Record]) -> list[Any]:
    """Return the records as examples."""
    examples = []
    for row in records:
        examples += template.encode(row, max_length=LENGTH)
    return examples


def main(path: str, out: str) -> None:
    """Teach the base, score it and each damaged copy, and print the table."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    base = open_base(path)
    base.tokenizer.chat_template = TEMPLATE
    asked = ChatTemplate(base.tokenizer)
    model = base.load(torch.float32)
    weights = taught(model, asked)
    evaluator = Evaluator(asked_tasks(), asked, base.tokenizer, base=lambda: model, max_length=2048)

    # Each damage begins at the model that was taught.
    damages = {
        "base": [],
        "no thoughts": encoded(asked.thoughtful, problems(random.Random(2), thinking=False)),
        "never declines": encoded(asked.skipping, never_declines(random.Random(0))),
        "no tools": encoded(asked.skipping, no_tools(random.Random(0))),
    }
    scores = {}
    for name, examples in damages.items():

        def damaged(examples: list[Any] = examples) -> Any:
            model.load_state_dict(weights)
            return trained(model, examples, RATE)

        scores[name] = scored(folder, name, evaluator, damaged)
    print(table(scores, MEASURES))


if __name__ == "__main__":
    main(*sys.argv[1:])
