"""`make bench-eval`: items a second of our evaluator beside `lm_eval --model hf` at its best batch size.

The same model in fp32, the same tasks through lm-eval's own `evaluate`, alternating in one run; CPU-seconds of one thread on
a CPU, because machines are shared and noisy, seconds on a GPU. Neither side remembers anything between rounds: our class
tokenises each time, though in a comparison it does so once for all models.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from harness.bundled import embedded
from harness.checkpoints.loading import load_model
from harness.evaluation.codec import Codec
from harness.evaluation.lm_eval_model import EvaluatedModel
from harness.evaluation.prepared_task import Prepared
from harness.tasks.suites import load_suite
from harness.tokens.chat_template import ChatTemplate

BATCHES = (8, 16, 32, 64, 128)
KINDS = {"multiple choice": "multiple_choice", "generation": "generate_until", "rolling": "loglikelihood_rolling"}


def clock(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


Answer = str | float
"""A generated text, or the log-likelihood of a text in nats."""


@dataclass(frozen=True)
class Round:
    """One evaluation: items a second, and what the model answered by (task, item, number of the request)."""

    speed: float
    answers: dict[tuple[str, int, int], Answer]


def evaluated(lm: Any, tasks: Sequence[Prepared], device: str) -> Round:
    """Score the tasks by lm-eval's own loop."""
    asked: Any = {"tasks": {task.spec.name: task for task in tasks}, "groups": {}, "group_map": {}}
    begin = clock(device)
    with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):  # their progress bars
        results: Any = evaluate(lm, asked, bootstrap_iters=0, log_samples=True)
    speed = sum(len(task.docs) for task in tasks) / (clock(device) - begin)
    answers: dict[tuple[str, int, int], Answer] = {}
    for name, samples in results["samples"].items():
        for sample in samples:
            for number, (response, *_) in enumerate(sample["resps"]):
                likelihood = isinstance(response, tuple | list)
                answers[name, sample["doc_id"], number] = response[0] if likelihood else response
    return Round(speed, answers)


def alike(ours: Round, theirs: Round) -> str:
    """Say how far the answers of two rounds are apart."""
    assert ours.answers.keys() == theirs.answers.keys()
    apart = [0.0]
    texts = differing = 0
    for key, answer in ours.answers.items():
        other = theirs.answers[key]
        if isinstance(answer, str) or isinstance(other, str):
            texts += 1
            differing += answer != other
        else:
            apart.append(abs(answer - other))
    return f"log-likelihoods differ by {max(apart):.1g} nats at most ({len(apart) - 1}); {differing} of {texts} texts differ"


def compared(kind: str, tasks: Sequence[Prepared], model: Any, tokenizer: Any, arguments: argparse.Namespace) -> None:
    """One kind of task: find HFLM's best batch size on a part, then take turns."""
    device = arguments.device

    def theirs(batch: int, part: Sequence[Prepared]) -> Round:
        return evaluated(HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch), part, device)

    def ours(part: Sequence[Prepared]) -> Round:
        return evaluated(EvaluatedModel(model, Codec(tokenizer, ChatTemplate(tokenizer))), part, device)

    few = [task.only(task.hash_sample(max(1, arguments.limit // 4), 1)) for task in tasks]
    speeds = {batch: theirs(batch, few).speed for batch in BATCHES}
    best = max(speeds, key=lambda batch: speeds[batch])
    pairs = [(ours(tasks), theirs(best, tasks)) for _ in range(arguments.rounds)]
    rounds = [(mine.speed, other.speed) for mine, other in pairs]
    ratios = [mine / other for mine, other in rounds]
    names = ", ".join(f"{task.spec.name} {len(task.docs)}" for task in tasks)
    print(f"{kind} ({names})")
    for name, values in zip(("ours", f"lm_eval hf, batch {best}"), zip(*rounds, strict=True), strict=True):
        each = ", ".join(f"{value:.1f}" for value in values)
        print(f"  {name:22s} {median(values):8.1f} items a {'CPU-' if device == 'cpu' else ''}second   ({each})")
    print(f"  ours over theirs: {median(ratios):.2f}   ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")
    print(f"  {alike(*pairs[-1])}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=embedded().model, help="folder or hub id (default: the embedded base)")
    parser.add_argument("--suites", nargs="+", default=[embedded().name], help="as lethe compare has them")
    parser.add_argument("--limit", type=int, default=100, help="items of each task")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = load_model(arguments.model, torch.float32, arguments.device)
    codec = Codec(tokenizer, ChatTemplate(tokenizer))
    tasks = []
    for suite in arguments.suites:
        specs = load_suite(suite, count=lambda t: len(tokenizer(t)["input_ids"]))
        tasks += [Prepared(spec, codec) for spec in specs]
    tasks = [task.only(task.hash_sample(arguments.limit, 0)) for task in tasks]
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, fp32, {arguments.device}")
    gc.freeze()  # the collector would search what was imported, again and again, on both sides
    for kind, output in KINDS.items():
        if part := [task for task in tasks if output == task.task.OUTPUT_TYPE]:
            compared(kind, part, model, tokenizer, arguments)


if __name__ == "__main__":
    main()
