"""Token weightings: their weights, by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from harness.contract import Batch
from harness.models.base_model import weights_hash
from harness.recipes.registry import methods
from tests.support.training import make_run, trained

BATCH = Batch(*[torch.zeros(1, 1, dtype=torch.long)] * 4, ())


def weights(name: str, losses=None, logits=None, **settings):
    losses = torch.zeros(1) if losses is None else torch.tensor(losses)
    logits = torch.zeros(len(losses), 4) if logits is None else logits
    return methods()[name](**settings).token_weights(losses, logits, BATCH)


def test_dft_weighs_by_probability():
    assert weights("dft", [0.0, math.log(2), math.log(10)]).tolist() == pytest.approx([1, 0.5, 0.1])
    assert weights("dft", [math.log(10)], strength=0.5).item() == pytest.approx(0.55)


def test_dft_descends_minus_p():
    logits = torch.tensor([[1.0, -0.5, 2.0]], requires_grad=True)
    loss = F.cross_entropy(logits, torch.tensor([0]))
    (ours,) = torch.autograd.grad(weights("dft", [loss.item()])[0] * loss, logits)
    (wanted,) = torch.autograd.grad(-logits.softmax(-1)[0, 0], logits)
    assert torch.allclose(ours, wanted)


def test_eaft_weighs_by_the_entropy_of_the_top_twenty():
    flat, certain = torch.zeros(1, 50), torch.zeros(1, 50)
    certain[0, 7] = 40.0
    assert weights("eaft", logits=flat).item() == pytest.approx(1) and weights("eaft", logits=certain).item() < 1e-6
    half = torch.full((1, 50), -60.0)
    half[0, :2] = 0.0
    assert weights("eaft", logits=half).item() == pytest.approx(math.log(2) / math.log(20))
    assert weights("eaft", logits=half, power=2.0).item() == pytest.approx((math.log(2) / math.log(20)) ** 2)
    assert weights("eaft", logits=half[:, :4]).item() == pytest.approx(math.log(2) / math.log(20))


def test_talr_falls_with_the_loss_by_the_median_loss_down_to_its_floor():
    found = weights("talr", [0.0, 1.0, 2.0, 4.0, 37.0], floor=0.01)
    assert found.tolist() == pytest.approx([1, math.exp(-0.5), math.exp(-1), math.exp(-2), 0.01])
    assert weights("talr", [1.0, 1.0, 8.0], scale=2.0)[2].item() == pytest.approx(math.exp(-4))
    assert weights("talr", [0.0, 0.0]).tolist() == [1, 1]


def test_talr_by_the_mean_and_by_sequences():
    found = weights("talr", [0.0, 1.0, 2.0, 37.0], tau="mean")
    assert found.tolist() == pytest.approx([1, math.exp(-0.1), math.exp(-0.2), math.exp(-3.7)])
    places = torch.tensor([1, 2, 5, 9])  # rows of 4 tokens: two targets in the first, one in each of two more
    batch = Batch(torch.zeros(3, 4, dtype=torch.long), BATCH.mask, places, BATCH.labels, ())
    talr = methods()["talr"](tau="sequences")
    found = talr.token_weights(torch.tensor([1.0, 3.0, 1.0, 6.0]), torch.zeros(0), batch)  # means 2, 1 and 6
    assert found.tolist() == pytest.approx([math.exp(-0.5), math.exp(-1.5), math.exp(-0.5), math.exp(-3)])


def base_losses(run) -> dict[str, torch.Tensor]:
    """Every domain example's token losses at the base, read one by one."""
    model, losses = run.load(), {}
    for example in run.domain:
        (batch,) = run.batches([example])
        losses[example.id] = run.nll(model, batch)[0].detach()
    return losses


def test_asft_is_dft_and_kl_bit_for_bit(base, tmp_path):
    ends = []
    for name, recipe in (("one", "asft(beta=0.2)"), ("two", "dft(norm=faithful)+kl(beta=0.2)")):
        ends.append(weights_hash(trained(make_run(base, recipe), tmp_path / name)[0]))
    assert ends[0] == ends[1]


def test_flow_weighs_records_by_the_bases_own_losses(base):
    run = make_run(base, "flow(strength=0.5)")
    flow = run.methods[0]
    flow.prepare(run.load(), run)
    means = torch.stack([losses.mean() for losses in base_losses(run).values()])
    (batch, *_) = run.batches([*run.domain[:3], *run.general[:1]])
    places = [run.domain.index(example) if example in run.domain else None for example in batch.examples]
    wanted = [1.0 if place is None else float(torch.exp(-means[place] / means.median())) for place in places]
    found = flow.token_weights(torch.ones(len(batch.labels)), torch.zeros(0), batch)
    assert found.tolist() == pytest.approx([0.5 + 0.5 * wanted[row] for row in batch.rows.tolist()], rel=1e-4)
    assert run.ledger.accounts["reading"].flops > 0 and not flow.renorm


def test_stm_trains_on_what_does_not_surprise_the_base(base):
    run = make_run(base, "stm(threshold=250.0)")  # the base is untrained: its perplexities are near 260
    stm = run.methods[0]
    stm.prepare(run.load(), run)
    masked = stm.records(list(run.domain), run)
    wanted = {name: (losses.exp() <= 250.0).tolist() for name, losses in base_losses(run).items()}
    assert {example.id for example in masked} == {name for name, flags in wanted.items() if any(flags)}
    before = {example.id: example for example in run.domain}
    for example in masked:
        places = [place for place, target in enumerate(before[example.id].supervised) if target]
        assert [example.supervised[place] for place in places] == wanted[example.id]
        assert sum(example.supervised) == sum(wanted[example.id]) and example.tokens == before[example.id].tokens
    assert 0 < sum(sum(flags) for flags in wanted.values()) < sum(len(flags) for flags in wanted.values())
    assert run.ledger.accounts["reading"].flops > 0


def test_stm_that_would_mask_everything_masks_nothing_and_says_so(base):
    run = make_run(base, "stm(threshold=1.5)")
    stm = run.methods[0]
    stm.prepare(run.load(), run)
    assert stm.records(list(run.domain), run) == list(run.domain)
    assert "nothing was masked" in stm.notes()[0]
