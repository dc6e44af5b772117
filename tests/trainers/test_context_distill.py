"""Context distillation: the teacher reads the whole text, the student its end alone."""

from __future__ import annotations

import pytest
import torch

from harness.contract import Example
from harness.models.forward import logits_at
from harness.recipes.registry import find_method
from tests.support.training import make_run

TEXT = Example("text", tuple(range(10, 30)), (False,) + (True,) * 19)
"""A plain text as `harness/tokens/plain_texts.py` makes them: one token to begin from, all others targets."""


@pytest.fixture(scope="module")
def cut() -> list[Example]:
    return find_method("context_distill")(part=0.5).records([TEXT], None)  # type: ignore[arg-type]


def test_the_student_reads_the_end_and_the_teacher_everything(cut: list[Example]):
    (example,) = cut
    assert example.tokens == (10, *range(20, 30)) and sum(example.supervised) == 10 and not example.supervised[0]
    assert example.as_taught.tokens == TEXT.tokens
    assert example.as_taught.supervised == (False,) * 10 + (True,) * 10
    assert example.id == TEXT.id


def test_a_prompt_is_read_by_both():
    asked = Example("asked", (1, 2, 3, 4, 5, 6, 7), (False, False, False, True, True, True, True))
    (example,) = find_method("context_distill")(part=0.5).records([asked], None)  # type: ignore[arg-type]
    assert example.tokens == (1, 2, 3, 6, 7) and example.supervised == (False, False, False, True, True)
    assert example.as_taught.tokens == asked.tokens and sum(example.as_taught.supervised) == 2


def test_the_loss_is_the_divergence_between_both_readings_and_short_texts_are_trained_on(base, cut: list[Example]):
    run = make_run(base, "context_distill")
    run.model = run.wrap(run.load()).model
    method = run.methods[0]
    short = Example("short", (10, 11), (False, True))
    assert method.records([short], run) == [short]
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    (batch, *rest) = run.batches([*cut, short])
    assert not rest
    logits = logits_at(run.model, batch).detach()
    penalty, share = method.penalty(logits, batch, run), method.share(batch)
    ours = torch.tensor([batch.examples[row].id == "text" for row in batch.rows.tolist()])
    read = run.load()(input_ids=torch.tensor([TEXT.tokens])).logits[0, -11:-1]
    p, q = read.log_softmax(-1), logits[ours].log_softmax(-1)
    assert torch.allclose(penalty[ours], (p.exp() * (p - q)).sum(-1), atol=1e-4) and penalty[ours].mean() > 1e-3
    assert penalty[~ours].abs().sum() == 0
    assert share[ours].sum() == 0 and share[~ours].tolist() == [1.0]
    assert run.ledger.accounts["teacher"].flops > 0
