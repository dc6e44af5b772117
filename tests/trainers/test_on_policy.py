"""Methods that learn from what a model says itself: by the present model, by hand, charged, and the same when resumed."""

from __future__ import annotations

import contextlib
from itertools import islice

import pytest
import torch

from harness.contract import Example, last_answer
from harness.models.base_model import weights_hash
from harness.models.forward import logits_at
from harness.recipes.registry import methods
from harness.training.loop import train
from tests.support.training import in_training, make_run, trained


def ready(base, recipe: str = "sdft"):
    """A run whose model is wrapped, as it is before the first step."""
    return in_training(make_run(base, recipe))


def test_the_last_answer_begins_where_its_run_of_targets_does():
    assert last_answer(Example("a", (1, 2, 3, 4, 5), (False, True, False, True, True))) == 3
    assert last_answer(Example("a", (1, 2, 3), (True, True, False))) == 0


def test_sdft_shows_the_demonstration_to_the_teacher_alone(base):
    run = ready(base)
    plain, step = next(make_run(base, "").steps()), next(run.steps())
    for demonstration, example in zip(plain, step, strict=True):
        end = last_answer(demonstration)
        answer = example.tokens[last_answer(example) :]
        assert example.id == demonstration.id and example.tokens[:end] == demonstration.tokens[:end]
        assert 1 <= len(answer) <= 2 * max(len(e) - last_answer(e) for e in plain)
        teacher = example.as_taught
        assert teacher.tokens[-len(answer) :] == answer and sum(teacher.supervised) == len(answer)
        told = base.tokenizer.decode(teacher.tokens, skip_special_tokens=True)
        assert base.tokenizer.decode(demonstration.tokens[end:], skip_special_tokens=True).strip() in told
        assert "Now answer the question" in told
    assert run.ledger.accounts["generation"].flops > 0


def test_words_stand_before_what_closes_a_question(base):
    from harness.files.turns import Turn
    from harness.tokens.chat_template import ChatTemplate

    template = ChatTemplate(base.tokenizer)
    prompt, longer = (tuple(template.encode_prompt((Turn("user", text),))) for text in ("Why?", "Why? As: no"))
    answer = tuple(base.tokenizer("no", add_special_tokens=False)["input_ids"])
    example = Example("a", (*prompt, *answer), (False,) * len(prompt) + (True,) * len(answer))
    assert ready(base).prompt_with(example, " As: {answer}") == longer


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_sdft_loss_is_the_divergence_between_two_prompts(base, direction):
    run = ready(base, f"sdft(direction={direction})")
    step = next(run.steps())
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    (batch, *_) = run.batches(step)
    logits = logits_at(run.model, batch).detach()
    found = run.methods[0].penalty(logits, batch, run)
    assert run.methods[0].share(batch).sum() == 0

    untouched, wanted = run.load(), []
    for row, example in enumerate(batch.examples):
        answer = example.tokens[last_answer(example) :]
        read = untouched(input_ids=torch.tensor([example.as_taught.tokens])).logits[0, -len(answer) - 1 : -1]
        p, q = read.log_softmax(-1), logits[batch.rows == row].log_softmax(-1)
        wanted.append(((p.exp() * (p - q)) if direction == "forward" else (q.exp() * (q - p))).sum(-1))
    assert torch.allclose(found, torch.cat(wanted), atol=1e-4)
    assert found.mean() > 1e-3
    assert run.ledger.accounts["teacher"].flops > 0


def test_sdft_speaks_as_the_model_in_training_does(base):
    """At no temperature to speak of: what the present model finds likeliest, and not what the base does."""
    run = ready(base, "sdft(temperature=0.001)")
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    same = 0
    untouched = run.load()
    for example in next(run.steps()):
        answer, end = example.tokens[last_answer(example) :], last_answer(example)
        for model, wanted in ((run.model, True), (untouched, False)):
            likeliest = model(input_ids=torch.tensor([example.tokens])).logits[0, end - 1 : -1].argmax(-1).tolist()
            assert (tuple(likeliest) == answer) is wanted
        same += 1
    assert same == 8


class Killed(Exception):
    """Stands for a process that dies between two steps."""


@pytest.mark.parametrize("recipe", ["sdft", "sdft+nlirg(token_batch=3)", "mix+sdft"])
def test_sdft_killed_at_any_step_says_the_same_when_resumed(base, recipe, tmp_path):
    """Where another method cuts a step into several updates, or takes parts of two, the step under way is said again too."""
    whole, _ = trained(make_run(base, recipe), tmp_path / "whole")
    for last in (1, 4):
        place = tmp_path / f"killed {last}"
        place.mkdir()
        steps = iter(range(6))

        def die(_, steps=steps, last=last):
            if next(steps) == last:
                raise Killed

        with contextlib.suppress(Killed):
            train(make_run(base, recipe), place, lambda *_: None, die, checkpoint_every=0.0)
        resumed, _ = trained(make_run(base, recipe), place)
        assert weights_hash(resumed) == weights_hash(whole), last


def test_sdft_ends_where_one_more_answer_is_not_paid_for(base, tmp_path):
    plain = make_run(base, "")
    price, _ = plain.step_price(next(plain.steps()))
    run = make_run(base, "sdft", meter="flops", allowed=12 * price)
    _, progress = trained(run, tmp_path / "run")
    assert progress.steps >= 2 and run.ledger.record()["overshoot"] <= 0.05
    assert len(list(islice(run.methods[0].sizes_, 100))) >= progress.steps


# --- targets that the base says --------------------------------------------------------------------------------------


def spelled(text: str, start: int, name: str = "a") -> Example:
    """An example whose tokens are letters, the last of them its answer."""
    marks = (False,) * start + (True,) * (len(text) - start)
    return Example(name, tuple(map(ord, text)), marks)


class Told:
    """Stands for a run whose base says what it is told, attempt by attempt; {question: answers}."""

    def __init__(self, says: dict[str, list[str]]):
        self.says, self.asked = says, []
        self.domain = [spelled("2+2?four", 4, "sum"), spelled("sky?blue", 4, "sky"), spelled("dog?bark", 4, "dog")]

    def generate(self, model, prompts, *, limit, temperature, name):
        asked = ["".join(map(chr, prompt)) for prompt in prompts]
        self.asked.append((name, limit, asked))
        attempt = int(name.split()[1])
        return [spelled(prompt + self.says[prompt][attempt], len(prompt)) for prompt in asked]

    def prompt_with(self, example, words):
        return (*example.tokens[: last_answer(example)], ord("!"))

    def text(self, tokens):
        return "".join(map(chr, tokens))


SAYS = {"2+2?": ["five", "It is FOUR."], "sky?": ["Blue!", "x"], "dog?": ["barking", "meow"]}


@pytest.mark.parametrize("how", ["samples", "rewrite"])
def test_self_sft_takes_the_first_right_answer_and_tries_no_more(how):
    says = SAYS if how == "samples" else {f"{prompt}!": answers for prompt, answers in SAYS.items()}
    run, method = Told(says), methods()["self_sft"](how=how, samples=2)
    method.prepare(None, run)
    assert [len(asked) for _, _, asked in run.asked] == [3, 2] and run.asked[0][1] == 8
    told = {example.id: run.text(example.tokens) for example in method.records(list(run.domain), run)}
    wanted = {"sum": "2+2?It is FOUR.", "sky": "sky?Blue!"}
    assert told == (wanted if how == "samples" else wanted | {"dog": "dog?bark"})
    answered = method.records(list(run.domain), run)[0]
    assert answered.supervised == (False,) * 4 + (True,) * 11
    again = methods()["self_sft"](how=how)
    again.restore(method.state())
    assert again.answers_ == method.answers_
    assert "2 of 3 answers are the model's own" in method.notes()[0]


def test_self_sft_that_says_nothing_right_trains_on_what_there_was():
    run = Told({prompt: ["no", "no"] for prompt in SAYS})
    method = methods()["self_sft"](how="samples")
    method.prepare(None, run)
    assert method.records(list(run.domain), run) == run.domain
    unchecked = methods()["self_sft"](how="samples", check=False, samples=1)
    unchecked.prepare(None, run)
    assert {run.text(e.tokens) for e in unchecked.records(list(run.domain), run)} == {"2+2?no", "sky?no", "dog?no"}


# --- context distillation ---------------------------------------------------------------------------------------------


def test_context_distill_shows_the_beginning_to_the_base_alone():
    method = methods()["context_distill"](part=0.5)
    text = Example("a", tuple(range(10, 20)), (False,) * 2 + (True,) * 8)
    short = Example("b", (1, 2, 3), (False, False, True))
    cut, same = method.records([text, short], None)
    assert same == short
    assert cut.tokens == (10, 11, 16, 17, 18, 19) and cut.supervised == (False,) * 2 + (True,) * 4
    assert cut.as_taught.tokens == text.tokens and cut.as_taught.supervised == (False,) * 6 + (True,) * 4


def test_context_distill_loss_is_the_divergence_from_what_the_base_says_behind_the_beginning(base):
    run = ready(base, "context_distill")
    short = Example("b", (5, 6, 7), (False, False, True))
    step = [*run.methods[0].records(list(run.data.domain[:3]), run), short]
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    (batch,) = run.batches(step)
    logits = logits_at(run.model, batch).detach()
    found = run.methods[0].penalty(logits, batch, run)
    untouched = run.load()
    for row, example in enumerate(batch.examples):
        ours = batch.rows == row
        if example == short:
            assert found[ours].tolist() == [0] and run.methods[0].share(batch)[ours].tolist() == [1]
            continue
        size = sum(example.supervised)
        read = untouched(input_ids=torch.tensor([example.as_taught.tokens])).logits[0, -size - 1 : -1]
        p, q = read.log_softmax(-1), logits[ours].log_softmax(-1)
        assert torch.allclose(found[ours], (p.exp() * (p - q)).sum(-1), atol=1e-4)
        assert run.methods[0].share(batch)[ours].sum() == 0
    assert run.ledger.accounts["teacher"].flops > 0
