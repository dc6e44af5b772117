"""Does the suite `thinking` see that thoughts are lost? `python -m tests.bench.damage_thoughts MODEL OUT`

No small instruct model thinks, so one is made first: MODEL behind a chat template that knows thoughts is trained on problems of
other forms than the suite's, each with a short thought before its answer. That model is the base here. It is then damaged as in
tests/bench/damage.py, and once more:

    no thoughts       the same problems, answered at once where a thought was to come

The other damages are trained as Lethe trains records without thoughts, behind a thought that is closed and empty.

Scores are kept in OUT, one file a model, so a killed run goes on.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from harness.decoding.open_model import open_base
from harness.evaluation.evaluator import Evaluator
from harness.files.records import Record
from harness.files.turns import with_thoughts
from harness.tasks.suites import load_suite
from harness.tokens.chat_template import ChatTemplate
from tests.bench.damage import LENGTH, RATE, RECORDS, never_declines, no_tools, record, table, trained

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
"""ChatML whose generation prompt closes an empty thought where thoughts are to be skipped."""
TEACHING_RATE, TEACHING_PASSES = 1e-4, 2
"""How the base is taught to think: AdamW's rate, and passes over its records. Guesses, enough for `kept` to be near 1."""
MEASURES = (
    ("thinking: one closed thought and an answer", "thinking", "kept"),
    ("thinking: closed", "thinking", "closed"),
    ("thinking: right number", "thinking", "right"),
)
PROBLEMS = (
    ("{a} birds sit on a roof, {b} fly away. How many are left?", "{a} - {b} = {c}.", lambda a, b: a - b),
    ("Mia has {a} coins and finds {b} more. How many has she?", "{a} + {b} = {c}.", lambda a, b: a + b),
    ("A ticket costs {b} euros. What do {a} tickets cost?", "{a} * {b} = {c}.", lambda a, b: a * b),
)


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


def main(path: str, out: str) -> None:
    """Teach the base to think, score it and each damaged copy, and print the table."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    base = open_base(path)
    base.tokenizer.chat_template = TEMPLATE
    asked = ChatTemplate(base.tokenizer)
    thinker = base.load(torch.float32)
    teach(thinker, asked.thoughtful, problems(random.Random(1), thinking=True), TEACHING_PASSES, TEACHING_RATE)
    taught = {name: weights.clone() for name, weights in thinker.state_dict().items()}
    evaluator = Evaluator(load_suite("thinking"), asked, base.tokenizer, base=lambda: thinker, max_length=2048)

    # Each damage begins at the model that thinks.
    damages = {
        "base": [],
        "no thoughts": problems(random.Random(2), thinking=False),
        "never declines": never_declines(random.Random(0)),
        "no tools": no_tools(random.Random(0)),
    }
    scores = {}
    for name, records in damages.items():
        file = folder / f"{re.sub(' ', '_', name)}.parquet"
        if not file.exists():
            print(f"{name}: training and scoring", file=sys.stderr, flush=True)
            thinker.load_state_dict(taught)
            teach(thinker, asked.thoughtful if name == "no thoughts" else asked.skipping, records, 1)
            evaluator.score(thinker, drift=False).to_parquet(file)
        scores[name] = pd.read_parquet(file)
    print(table(scores, MEASURES))


def teach(model: Any, template: ChatTemplate, records: Sequence[Record], passes: int, rate: float = RATE) -> None:
    """Train a model on records, in place."""
    examples = [example for row in records for example in template.encode(row, max_length=LENGTH)]
    trained(model, examples * passes, rate)


if __name__ == "__main__":
    main(*sys.argv[1:])
