"""Methods that choose, add or wrap parameters: what they begin as, what trains when, what is stored and scored."""

from __future__ import annotations

import pytest
import torch

from harness.errors import PlanError
from harness.models.adapters import wrap
from harness.models.base_model import read_weights, save_weights, weights_hash
from harness.models.forward import logits_at
from harness.recipes.recipe import parse_recipe
from harness.recipes.registry import methods
from harness.training.masters import Masters
from harness.training.run import TrainingRun
from tests.support.training import examples, in_training, make_run, trained

WRAPPERS = sorted(name for name, method in methods().items() if method.adds)
STAYING = [name for name in WRAPPERS if not methods()[name].folds]
SELECTORS = ["freeze", "freeze(which='top')", "freeze(which='important')", "random_half", "unfreeze"]


def a_batch(run, n: int = 5):
    return next(iter(run.batches(examples(n))))


def shaken(planned, std: float = 0.1) -> tuple[TrainingRun, Masters]:
    """The run in training and its masters, with random values in the model, as after some training."""
    run = in_training(planned)
    masters = Masters(run.wrapped)
    generator = torch.Generator().manual_seed(3)
    for tensor in masters.tensors:
        tensor.data += std * torch.randn(tensor.shape, generator=generator)
    masters.publish()
    return run, masters


def rebuilt(run, base, weights):
    """The model that evaluation scores: a fresh base, wrapped by what does not fold, holding stored weights."""
    stay = [method for method in run.filled("trainable") if method.adds and not method.folds]
    wrapped = wrap(base.load(torch.float32), stay, run, make_run(base, "").start)
    wrapped.set(weights)
    return wrapped.model.eval()


# --- the base stays the base -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRAPPERS)
def test_freshly_wrapped_amounts_to_the_base(name, base):
    """In weights: the base's own to the last bit, and nothing of the base trains."""
    run = make_run(base, name)
    effective = Masters(run.wrap(run.load())).effective()
    plain = {key: value for key, value in effective.items() if not key.startswith("added.")}
    if name != "qlora":
        assert weights_hash(plain) == base.hash
    assert bool(len(effective) > len(plain)) is not methods()[name].folds


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", [name for name in WRAPPERS if not methods()[name].unlike_base])
def test_freshly_wrapped_logits_are_the_bases_bit_for_bit(name, precision, base):
    run = make_run(base, name, precision=precision)
    batch = a_batch(run)
    wrapped = run.wrap(run.load())
    assert torch.equal(logits_at(wrapped.model, batch), logits_at(run.load(), batch))
    assert weights_hash({k: v for k, v in Masters(wrapped).effective().items() if "added" not in k}) == base.hash


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_base_speaks_the_same_before_during_and_after(name, base):
    run = make_run(base, name)
    untouched, batch = run.load(), a_batch(run)
    before = logits_at(untouched, batch)
    run, _ = shaken(run)
    assert not torch.allclose(logits_at(run.model, batch), before, atol=1e-3)
    assert torch.equal(run.base_logits(batch), before)
    assert not torch.allclose(logits_at(run.model, batch), before, atol=1e-3)
    assert run.ledger.accounts["teacher"].calls == 1
    if hasattr(run.model, "unload"):
        assert torch.equal(logits_at(run.model.unload(), batch), before) is (name != "qlora")


def test_two_adders_leave_the_base_to_a_frozen_copy(base):
    """Switching peft's part off would leave the bottlenecks speaking."""
    run = make_run(base, "lora+adapter")
    before = logits_at(run.load(), batch := a_batch(run))
    run, _ = shaken(run)
    assert torch.equal(run.base_logits(batch), before)


# --- what is stored and scored -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [*WRAPPERS, "lora+adapter", "dora+adapter", "freeze", "random_half"])
def test_stored_weights_score_as_the_trained_model(recipe, base, tmp_path):
    run, masters = shaken(make_run(base, recipe))
    batch = a_batch(run)
    save_weights(masters.effective(), tmp_path / "w.safetensors")
    model = rebuilt(make_run(base, recipe), base, read_weights(tmp_path / "w.safetensors"))
    with torch.no_grad():
        active, scored = logits_at(run.model.eval(), batch), logits_at(model, batch)
    assert torch.allclose(active, scored, atol=1e-4), (active - scored).abs().max()


def test_dora_formula(base):
    """W = m V / ||V||, from the paper; and m begins as the norm."""
    run, masters = shaken(make_run(base, "dora"))
    effective = masters.effective()
    name, fold = next(iter(run.wrapped.folds.items()))
    a, b, m = (factor.detach() for factor in fold.factors)
    direction = run.start[name] + 2.0 * b @ a  # alpha 16 over r 8
    assert torch.allclose(effective[name], m[:, None] * direction / direction.norm(dim=1, keepdim=True), atol=1e-5)
    assert torch.allclose(fold.magnitude, run.start[name].norm(dim=1), atol=1e-6)


def nf4(weight: torch.Tensor) -> torch.Tensor:
    """The nearest of sixteen values in each block of 64, times the block's largest magnitude (arXiv:2305.14314, appendix E)."""
    from bitsandbytes.functional import get_4bit_type

    code, blocks = get_4bit_type("nf4", device="cpu"), weight.reshape(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    return (code[((blocks / scale)[..., None] - code).abs().argmin(-1)] * scale).view_as(weight)


def test_the_quantised_base_is_nf4_and_every_other_weight_the_bases(base):
    """Scales are quantised once more, to 8 bits: within 1 % of plain NF4. Layers 32 wide stay as they are."""
    run = make_run(base, "qlora")
    found = Masters(run.wrap(run.load())).effective()
    quantised = {name for name in found if not torch.equal(found[name], run.start[name])}
    assert quantised == {name for name in found if "down_proj" in name}
    for name in quantised:
        wanted = nf4(run.start[name])
        assert (found[name] - wanted).norm() < 0.01 * wanted.norm()
        assert 0.05 < (found[name] - run.start[name]).norm() / run.start[name].norm() < 0.12


@pytest.mark.parametrize("name", [name for name in STAYING if not methods()[name].unlike_base])
def test_the_line_to_the_base_ends_there(name, base):
    """Weights at alpha 0 are what `wise` would give: scored, they are the base."""
    run, masters = shaken(make_run(base, name))
    effective = masters.effective()
    start = {key: run.start[key].lerp(value, 0.0) for key, value in effective.items()}
    batch = a_batch(run)
    model = rebuilt(make_run(base, name), base, start)
    assert torch.equal(logits_at(model, batch), logits_at(base.load(torch.float32), batch))
    run.start[next(key for key in effective if "added" in key)]  # the start knows what was added


def test_interpolated_adapters_train_and_store(base, tmp_path):
    full, _ = trained(make_run(base, "adapter"), tmp_path / "full")
    none, _ = trained(make_run(base, "adapter+wise(alpha=0.0)"), tmp_path / "none")
    half, _ = trained(make_run(base, "adapter+wise"), tmp_path / "half")
    assert all(torch.allclose(half[key], (full[key] + none[key]) / 2, atol=1e-6) for key in full)
    assert weights_hash(full) != weights_hash(none)


# --- scoring with what stays active ------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", STAYING)
def test_decoding_with_a_cache_is_decoding_without(recipe, base):
    """Virtual tokens enter once, added blocks have a cache of their own, prompts of many lengths share a batch."""
    from harness.decoding import generate, likelihood

    run, _ = shaken(make_run(base, recipe))
    model = run.model.eval()
    texts = [example.tokens for example in examples(6, seed=5)]
    found = generate.continuations(model, [generate.Prompt(t, 5, lambda _: False) for t in texts], frozenset({3}), 64)
    for tokens, said in zip(texts, found, strict=True):
        row = list(tokens)
        for token in said:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1]
            assert logits[token] > logits.max() - 1e-4
            row.append(token)
    asked = [likelihood.Continuation(t[:6], t[6:9]) for t in texts] + [likelihood.Continuation(texts[0][:6], (7, 8))]
    apart = [likelihood.score(model, [one], 1000)[0][0] for one in asked]
    assert [value for value, _ in likelihood.score(model, asked, 64)] == pytest.approx(apart, abs=1e-4)


# --- which parameters train, and when ----------------------------------------------------------------------------------


def trains(recipe: str, base) -> set[str]:
    run = make_run(base, recipe)
    for method in run.filled("prepare"):
        method.prepare(run.load(), run)
    return {name for name, p in run.wrap(run.load()).model.named_parameters() if p.requires_grad}


def test_freeze_from_below_and_above(base):
    everything = trains("sft", base)
    below = {name for name in everything if name.startswith("model.layers.0") or "embed" in name}
    assert trains("freeze(layers=1)", base) == everything - below
    assert trains("freeze(layers=1, which=top)", base) == {n for n in everything if "layers.1" in n} | {"model.norm.weight"}
    assert trains("freeze(layers=0)", base) == everything


def test_freeze_by_importance_takes_the_block_with_the_larger_gradient(base):
    run = make_run(base, "freeze(layers=1, which=important)")
    model, (freeze,) = run.load(), run.methods
    with torch.no_grad():
        for parameter in model.model.layers[1].mlp.down_proj.parameters():
            parameter.mul_(50)  # so that it sends fifty times the gradient to what feeds it
    freeze.prepare(model, run)
    assert freeze.norms_[1] > 2 * freeze.norms_[0]
    assert run.ledger.accounts["importance"].calls > 0
    names = {n for n, p in run.wrap(run.load()).model.named_parameters() if p.requires_grad}
    assert names == {n for n in trains("sft", base) if "layers.1" in n}


def test_random_half_freezes_half_of_every_kind(base):
    run = make_run(base, "random_half")
    blocks = run.wrap(run.load()).model.model.layers
    kinds = {name: [dict(b.named_parameters())[name].requires_grad for b in blocks] for name, _ in blocks[0].named_parameters()}
    assert all(sum(on) == (1 if "proj" in name else 2) for name, on in kinds.items())
    assert len({tuple(on) for on in kinds.values()}) > 1


def test_unfreeze_trains_the_top_first_and_pays_less_for_it(base, tmp_path, monkeypatch):
    """The trace of what moves: nothing low before `until`, everything after; its moments begin then."""
    run = make_run(base, "unfreeze(layers=1, until=0.5)", allowed=6)
    seen, prices, start = [], [], run.start
    settle = TrainingRun.settle

    def settled(self):
        settle(self)
        seen.append({name for name, p in self.model.named_parameters() if p.requires_grad})
        prices.append(self.step_price([*examples(8)])[0])

    monkeypatch.setattr(TrainingRun, "settle", settled)
    weights, _ = trained(run, tmp_path)
    monkeypatch.undo()
    everything, top = trains("sft", base), {n for n in seen[0] if "layers.1" in n} | {"model.norm.weight"}
    assert seen[:3] == [top] * 3 and seen[3:6] == [everything] * 3
    assert prices[0] < 0.75 * prices[3]
    early, _ = trained(make_run(base, "unfreeze(layers=1, until=0.99)", allowed=6), tmp_path / "early")
    assert all(torch.equal(early[name], start[name]) for name in everything - top)
    assert not torch.equal(weights["model.layers.0.mlp.up_proj.weight"], start["model.layers.0.mlp.up_proj.weight"])
    assert run.rate(0.6) == pytest.approx(make_run(base, "sft").rate(0.6) / 10)


def test_resting_weights_are_not_pulled(base, tmp_path):
    weights, _ = trained(make_run(base, "unfreeze(until=0.99)+l2sp", allowed=3), tmp_path)
    assert torch.equal(
        weights["model.layers.0.mlp.up_proj.weight"], make_run(base, "").start["model.layers.0.mlp.up_proj.weight"]
    )


def test_the_router_says_where_it_sends_tokens(base, tmp_path):
    from harness.store.runs import RunFolder

    trained(make_run(base, "moe(experts=3, balance=0.1)", allowed=3), tmp_path)
    entry = RunFolder(tmp_path).log()[-1]
    shares = [entry[f"moe {name}"] for name in ("expert 0", "expert 1", "expert 2", "null expert")]
    assert sum(shares) == pytest.approx(1) and min(shares) > 0
    assert entry["penalty"] > 0


# --- what goes together ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe, words",
    [
        ("lora+freeze", "freeze chooses among the base's own weights and lora adds to the linear layers"),
        ("lora+dora", "which do not go together"),
        ("prefix+adapter", "prefix adds virtual tokens"),
        ("freeze+unfreeze", "do not go together"),
        ("wise+prompt", "wise may go back towards the base, and no line leads there from prompt: tokens"),
        ("ewc+adapter", "ewc pulls on the base's weights and adapter leaves them as they are"),
    ],
)
def test_forbidden_pairs_say_why(recipe, words):
    with pytest.raises(PlanError) as caught:
        parse_recipe(recipe)
    assert all(part in str(caught.value) for part in words.split(" and "))


def test_adders_at_different_places_chain_in_one_order(base, tmp_path):
    one, other = (trained(make_run(base, r), tmp_path / r[:4])[0] for r in ("lora+adapter", "adapter+lora"))
    assert weights_hash(one) == weights_hash(other)
    start = make_run(base, "").start
    assert any(not torch.equal(one[name], start[name]) for name in start)  # LoRA's part, folded
    assert any(name.startswith("added.") for name in one)  # the bottlenecks


def test_a_pull_beside_a_bottleneck_holds_what_lora_folds_and_leaves_the_bottleneck_free(base, tmp_path):
    runs = {name: make_run(base, name) for name in ("lora+adapter", "lora+adapter+l2sp(strength=100.0)")}
    (free, _), (held, _) = (trained(run, tmp_path / str(i)) for i, run in enumerate(runs.values()))
    start = runs["lora+adapter"].start

    def moved(weights):
        return sum(float((weights[name] - start[name]).square().sum()) for name in start)

    assert moved(held) < 0.2 * moved(free)
    assert any(name.startswith("added.") and bool(held[name].any()) for name in held)


# --- whole runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe", ["lora+adapter", "moe(balance=0.1)", "unfreeze(until=0.5)", "freeze(which=important)", "prompt"]
)
def test_killed_and_resumed_ends_bit_identical(recipe, base, tmp_path):
    from harness.store.runs import RunFolder
    from harness.training.loop import train

    class Killed(BaseException):
        pass

    def kill(entry):
        if entry["step"] == 4:
            raise Killed

    whole, _ = trained(make_run(base, recipe), tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    with pytest.raises(Killed):
        train(make_run(base, recipe), tmp_path / "cut", lambda *_: None, kill, checkpoint_every=0.0)
    resumed, _ = trained(make_run(base, recipe), tmp_path / "cut")
    assert weights_hash(resumed) == weights_hash(whole)
    logs = [[e | {"seconds": 0} for e in RunFolder(tmp_path / name).log()] for name in ("whole", "cut")]
    assert logs[0] == logs[1]
