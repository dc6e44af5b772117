"""NLIRG's variants: quantile thresholds, k-token updates, clamps, the shuffled control. Its pins: test_methods.py."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch

from harness.models.base_model import weights_hash
from harness.recipes.recipe import parse_recipe
from harness.recipes.registry import methods
from harness.store.runs import RunFolder
from harness.training.loop import train
from tests.support.training import examples, make_run, trained
from tests.training.test_train import Killed, killed_at
from trainers.nlirg import auto_token_batch, windows_of


def nlirg(**settings):
    return methods()["nlirg"](**settings)


def test_clamps_hold_below_the_deadline_only():
    losses = torch.tensor([0.0, 3.0, 10.0, 14.9, 15.0, 20.0])
    weights = nlirg(minimum=0.2, maximum=0.9).weight(losses)
    assert weights.tolist() == pytest.approx([0.2, 0.9, 0.2, 0.2, 0, 0])


def test_the_articles_code_at_its_published_losses():
    losses = torch.tensor([0, 0.5, 1.2, 1.45, 2, 3, 4, 5, 6.6, 8, 10, 14, 14.9, 15, 20], dtype=torch.float64)
    told = [0.8849333, 0.7667411, 0.5, 0.3953209, 0.1544653, 0.5, 0.8455347, 0.9677045, 0.9999994, 0.9999932, 0.9997966]
    told += [0.8455347, 0.5423980, 5e-8, 5e-8]
    assert nlirg(variant="article").weight(losses).tolist() == pytest.approx(told, abs=1e-7)


def test_settings_that_cannot_be_are_refused():
    for recipe, words in (
        ("nlirg(scale=log)", "scale is nats or quantile, not 'log'"),
        ("nlirg(token_batch=much)", "token_batch is a number"),
        ("nlirg(token_batch=2.5)", "takes int or str, not 2.5"),
        ("nlirg(minimum=0.5, maximum=0.2)", "minimum is at most maximum"),
    ):
        with pytest.raises(Exception, match=words):
            parse_recipe(recipe)


# --- scale=quantile --------------------------------------------------------------------------------------------------


def test_quantile_scale_gives_the_thresholds_weights_at_the_quantiles():
    method = nlirg(scale="quantile")
    knots = torch.tensor([0.5, 1.0, 4.0, 7.0], dtype=torch.float64)
    method.restore({"knots": knots})
    wanted = nlirg().weight(torch.tensor([0, 0.6, 1.2, 2.1, 3.0, 4.6, 6.2, 15.0 - 1e-4, 15.1], dtype=torch.float64))
    found = method.weight(torch.tensor([0, 0.25, 0.5, 0.75, 1.0 - 1e-9, 2.5, 4.0, 7.0 - 1e-4, 7.1], dtype=torch.float64))
    assert found.tolist() == pytest.approx(wanted.tolist(), abs=2e-4)


def test_equal_quantiles_do_no_harm():
    method = nlirg(scale="quantile")
    method.restore({"knots": torch.zeros(4, dtype=torch.float64)})
    assert method.weight(torch.tensor([0.0, 0.1, 5.0])).isfinite().all()


def test_quantiles_are_those_of_the_base_on_domain_data_and_charged(base):
    run = make_run(base, "nlirg(scale=quantile, samples=40)")
    (method,) = run.methods
    model = run.load()
    method.prepare(model, run)
    losses = torch.cat([run.nll(model, batch)[0].detach() for batch in run.batches(run.data.domain)])
    below = [float((losses <= knot).double().mean()) for knot in method.knots_]
    assert below == pytest.approx(method.QUANTILES, abs=1 / len(losses) + 1e-9)
    account = run.ledger.record()["accounts"]["statistics"]
    assert account["tokens"] == sum(map(len, run.data.domain)) and account["flops"] > 0
    assert "nats, by the base's own losses" in method.notes()[0]


# --- token_batch -----------------------------------------------------------------------------------------------------


def targets(rows) -> Counter:
    """(record, place, token) of every target that these rows train."""
    return Counter((row.id, place, row.tokens[place]) for row in rows for place in range(1, len(row)) if row.supervised[place])


@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_every_target_is_trained_exactly_once(k, base):
    run = make_run(base, f"nlirg(token_batch={k})")
    step = next(make_run(base, "").steps())
    parts = run.methods[0].split(step, run)
    assert sum((targets(part) for part in parts), Counter()) == targets(step)
    assert all(sum(row.supervised[1:]) <= k and row.supervised[-1] for part in parts for row in part)
    assert sum(row.part for part in parts for row in part) == pytest.approx(len(step))
    assert len(parts) == max(-(-sum(row.supervised[1:]) // k) for row in step)


def test_a_window_keeps_its_prefix_and_nothing_after():
    (example,) = examples(1)
    for part in windows_of(example, 3):
        assert part.tokens == example.tokens[: len(part)]


def test_long_token_batches_are_the_whole_answer_bit_for_bit(base, tmp_path):
    one, _ = trained(make_run(base, "nlirg(token_batch=1000)"), tmp_path / "long")
    two, _ = trained(make_run(base, "nlirg"), tmp_path / "whole")
    assert weights_hash(one) == weights_hash(two)


def test_updates_count_epochs_by_targets_and_pay_for_every_pass(base, tmp_path):
    """Three-token updates: the same targets as one pass, at the price of running each prefix again."""
    cut, whole = make_run(base, "nlirg(token_batch=3)", allowed=1000), make_run(base, "nlirg", allowed=5)
    n_updates = sum(len(cut.methods[0].split(step, cut)) for step in itertools.islice(make_run(base, "").steps(), 5))
    cut.ledger.allowed = n_updates
    _, progress = trained(cut, tmp_path / "cut")
    trained(whole, tmp_path / "whole")
    assert progress.steps == n_updates > 5 and progress.epochs == pytest.approx(1.0)
    logs = [RunFolder(tmp_path / name).log() for name in ("cut", "whole")]
    assert len({sum(entry["supervised"] for entry in log) for log in logs}) == 1
    assert cut.ledger.record()["flops"] > 1.5 * whole.ledger.record()["flops"]


def test_resumed_in_the_middle_of_a_step(base, tmp_path):
    def make():
        return make_run(base, "nlirg(token_batch=auto, scale=quantile, shuffled=True)", allowed=9)

    whole, _ = trained(make(), tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    with pytest.raises(Killed):
        train(make(), tmp_path / "cut", lambda *_: None, killed_at(5), checkpoint_every=0.0)
    assert weights_hash(trained(make(), tmp_path / "cut")[0]) == weights_hash(whole)


GB = 1e9


@pytest.mark.parametrize("parameters, low, high", [(7e9, 8, 12), (13e9, 6, 8), (0.5e9, 12, 12), (70e9, 5, 5)])
def test_auto_by_size_where_memory_is_enough(parameters, low, high):
    tokens, rows = auto_token_batch(int(parameters), 80 * GB, 32)
    assert low <= tokens <= high and rows == 32


def test_auto_lowers_the_tokens_to_five_and_then_the_sequences():
    plans = [auto_token_batch(7_000_000_000, free, 32) for free in (2 * GB, 1.2 * GB, 0.8 * GB, 0.3 * GB, 0.0)]
    assert plans == [(10, 32), (8, 32), (5, 32), (5, 13), (5, 1)]
    for (tokens, rows), free in zip(plans[:4], (2 * GB, 1.2 * GB, 0.8 * GB, 0.3 * GB), strict=True):
        assert tokens * rows * 4.5e6 <= free


# --- the control -----------------------------------------------------------------------------------------------------


def test_shuffled_keeps_the_histogram_and_loses_the_tokens(base):
    run = make_run(base, "nlirg(shuffled=True)")
    (batch, *_) = run.batches(examples(8))
    losses = torch.linspace(0, 16, len(batch.places))
    logits = torch.zeros(len(losses), 1)
    dealt, known = (nlirg(shuffled=flag).token_weights(losses, logits, batch) for flag in (True, False))
    assert torch.equal(dealt.sort().values, known.sort().values) and not torch.equal(dealt, known)
    assert torch.equal(dealt, run.methods[0].token_weights(losses, logits, batch))
    state = torch.random.get_rng_state()
    nlirg(shuffled=True).token_weights(losses, logits, batch)
    assert torch.equal(state, torch.random.get_rng_state())
