"""Plain fine-tuning against a loop in plain torch, written from the protocol's definitions, and what it is charged."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from harness.contract import Example
from harness.store.runs import RunFolder
from tests.support.training import make_run, trained

STEPS = 8
PEAK = 1e-2
WARMUP = 0.2
SETTINGS: dict[str, Any] = {
    "allowed": STEPS,
    "learning_rate": PEAK,
    "batch_size": 7,  # the sixth step ends an epoch, and has five examples
    "micro_tokens": 96,
    "warmup": WARMUP,
    "weight_decay": 0.3,
    "clip": 0.5,
}


def rate_of(step: int) -> float:
    """The rate in the middle of a step, from 0: linear warm-up, then half a cosine to zero."""
    spent = (step + 0.5) / STEPS
    if spent < WARMUP:
        return PEAK * spent / WARMUP
    return PEAK * (1 + math.cos(math.pi * (spent - WARMUP) / (1 - WARMUP))) / 2


def loss_of(model: Any, example: Example) -> torch.Tensor:
    """The summed loss of an example's supervised tokens; the first token is predicted by nothing."""
    tokens = torch.tensor(example.tokens)
    logits = model(tokens[None]).logits[0, :-1]
    losses = F.cross_entropy(logits, tokens[1:], reduction="none")
    return losses[torch.tensor(example.supervised[1:])].sum()


def adamw(parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of a plan that names none."""
    return torch.optim.AdamW(parameters, lr=0.0, weight_decay=SETTINGS["weight_decay"])


def plain_torch(path: Any, steps: list[list[Example]], make: Any = adamw) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The weights after these steps, and each step's norm of the gradient before clipping; `make` makes the optimizer."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    optimizer = make(model.parameters())
    norms = []
    for number, examples in enumerate(steps):
        supervised = sum(sum(example.supervised[1:]) for example in examples)
        optimizer.zero_grad()
        losses = torch.stack([loss_of(model, example) for example in examples])
        (losses.sum() / supervised).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), SETTINGS["clip"])))
        for group in optimizer.param_groups:
            group["lr"] = rate_of(number)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}, norms


def test_plain_fine_tuning_is_a_loop_in_plain_torch(base, tmp_path):
    """The schedule, the mean over the step's tokens, clipping, decay and the optimizer, whatever the micro-batches."""
    run = make_run(base, "sft", **SETTINGS)
    domain = list(run.data.domain)
    domain[::4] = [dataclasses.replace(example, supervised=(True,) * len(example)) for example in domain[::4]]
    run.data = dataclasses.replace(run.data, domain=tuple(domain))  # some are trained as they stand, prompt included
    source = run.steps()
    steps = [list(next(source)) for _ in range(STEPS)]
    assert [len(step) for step in steps] == [7] * 5 + [5, 7, 7]
    weights, _ = trained(run, tmp_path)
    expected, norms = plain_torch(base.path, steps)

    log = RunFolder(tmp_path).log()
    assert [entry["rate"] for entry in log] == pytest.approx([rate_of(number) for number in range(STEPS)])
    assert [entry["gradient_norm"] for entry in log] == pytest.approx(norms, rel=1e-3)
    assert max(norms) > SETTINGS["clip"]  # clipping is part of what is compared
    for name, tensor in expected.items():
        assert torch.allclose(weights[name], tensor, atol=1e-4), name

    # Every token that was trained on is charged once, and padding is in no count of tokens.
    tokens = sum(len(example) for step in steps for example in step)
    ledger = run.ledger.record()
    assert ledger["tokens"] == {"domain": tokens} and ledger["accounts"]["train"]["tokens"] == tokens
    assert sum(entry["tokens"] for entry in log) == tokens
    assert ledger["steps"] == ledger["spent"] == STEPS


def test_another_seed_is_another_training(base):
    """The order of the examples and the dropout masks are the seed's."""
    first, second = make_run(base, "sft", seed=0), make_run(base, "sft", seed=1)
    orders = [[example.id for example in next(run.steps())] for run in (first, second)]
    assert orders[0] != orders[1]
    assert first.derive_seed("step 0") != second.derive_seed("step 0")  # masks
