"""Rehearsal of what the base says itself: how it is generated, mixed in and charged."""

from __future__ import annotations

import pytest
import torch

from harness.bundled import embedded
from harness.decoding.difficulty import token_scores
from harness.decoding.open_model import open_base
from harness.decoding.sampling import Speaker
from harness.models.flops import executed, full_price
from harness.recipes.recipe import parse_recipe
from harness.training.loop import train
from tests.support.training import make_run, trained
from tests.trainers.test_data_methods import drawn, prepared, shares
from tests.training.test_train import Killed, killed_at


def generated(base, recipe: str, seed: int = 0):
    run, model = prepared(base, recipe, seed=seed)
    return run, model, run.methods[0].text_


def test_self_rehearsal_says_what_the_base_says(base):
    """From BOS alone; each text's tokens are likely under the base at temperature 1, as its entropy lets expect."""
    run, model, text = generated(base, "replay_self(size=200, length=12)")
    assert len(text) == 200 and {e.tokens[0] for e in text} == {base.tokenizer.bos_token_id}
    assert all(e.supervised == (False,) + (True,) * (len(e) - 1) and e.source == "generated" for e in text)
    scores = torch.cat([token_scores(*run.nll(model, batch)).detach() for batch in run.batches(text)], 1)
    surprise = (scores[0] - scores[1]).mean()  # E[-log p(y)] is the entropy
    assert abs(surprise) < 4 * (scores[0] - scores[1]).std() / scores.shape[1] ** 0.5


def test_a_low_temperature_says_what_is_likely(base):
    model_likes = {}
    for temperature in (0.05, 1.0):
        run, model, text = generated(base, f"replay_self(size=20, length=12, temperature={temperature})")
        batches = run.batches(text)
        model_likes[temperature] = torch.cat([run.nll(model, batch)[0].detach() for batch in batches]).mean()
    assert model_likes[0.05] < model_likes[1.0] - 0.1


def test_self_rehearsal_can_continue_general_prompts(base):
    run, _, text = generated(base, "replay_self(size=10, length=6, start=prompts)")
    prompts = {e.tokens[: e.supervised.index(True)] for e in run.general}
    assert all(e.tokens[: e.supervised.index(True)] in prompts for e in text)
    assert parse_recipe("replay_self").track == "free" and parse_recipe("replay_self(start=prompts)").track == "general"


def test_self_rehearsal_repeats_by_seed_and_mixes_by_ratio(base):
    one, two, other = (generated(base, "replay_self(size=20, length=6)", seed)[2] for seed in (1, 1, 2))
    assert one == two != other
    run = generated(base, "replay_self(size=20, length=6, ratio=0.2)")[0]
    assert sum(shares(drawn(run, 500))) == pytest.approx(800, abs=1)


def test_a_question_that_the_base_asks_is_answered():
    """The embedded base knows conversations: what it says from BOS ends with an answer, not with the question."""
    base = open_base(embedded().model)
    model, ids = base.load(torch.float32), base.tokenizer.convert_tokens_to_ids
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = Speaker(model, base.tokenizer, longest=512, temperature=1.0, micro_tokens=2048).texts([()] * 40, 60)
    asked = [e for e in text if e.tokens[1] == ids("<|user|>") and e.tokens[-1] == ids("<|im_end|>")]
    assert len(asked) > 5 and all(e.tokens.count(ids("<|assistant|>")) == 1 and len(e) <= 61 for e in asked)
    assert all(sum(e.supervised) == len(e) - 1 for e in text)


def test_generation_is_charged_and_never_repeated(base, tmp_path):
    def make():
        return make_run(base, "replay_self(size=6, length=8)", meter="flops", allowed=2e8)

    (tmp_path / "cut").mkdir()
    killed = make()
    with pytest.raises(Killed):
        train(killed, tmp_path / "cut", lambda *_: None, killed_at(3), checkpoint_every=0.0)
    run = make()
    run.generate = None  # a resumed run has its text
    trained(run, tmp_path / "cut")
    assert run.methods[0].text_ == killed.methods[0].text_ != []
    account = run.ledger.accounts["generation"]
    assert account.calls == 1 and account.flops > 0 and run.ledger.classes["generation"] == account.tokens > 0
    assert run.ledger.classes["generated"] > 0


def test_what_is_executed_is_counted_as_the_flop_counter_counts_it(base):
    """Generation with a cache: prompts of several lengths, rows that leave early. Eager attention, which the counter sees."""
    from torch.utils.flop_counter import FlopCounterMode

    from harness.decoding import generate

    model = base.load(torch.float32)
    model.set_attn_implementation("eager")
    prompts = [generate.Prompt(tuple(range(5, 5 + n)), 3 + n, lambda _: False) for n in (1, 4, 9, 20)]
    with executed(model, full_price(base.path, False)) as work, FlopCounterMode(display=False) as counter:
        generate.continuations(model, prompts, frozenset(), 200)
    assert work.flops == pytest.approx(counter.get_total_flops(), rel=0.02)
