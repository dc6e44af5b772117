"""Our lm-eval model against lm-eval's own, item by item, and against itself at other batch sizes."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance

from harness.checkpoints.loading import load_model
from harness.decoding import generate, kv_cache, likelihood, prefix_tree
from harness.decoding.generate import Prompt
from harness.evaluation.codec import Codec, encode_pairs
from harness.evaluation.lm_eval_model import EvaluatedModel, Generated
from harness.evaluation.prepared_task import Prepared
from harness.files.turns import Turn
from harness.tasks.item_suites import load_jsonl
from harness.tokens.chat_template import ChatTemplate
from tests.support.shared_data import SHARED

torch.set_num_threads(1)
WORDS = [
    "one",
    "day",
    "a",
    "little",
    "cat",
    "sat",
    "by",
    "the",
    "old",
    "red",
    "house",
    "and",
    "saw",
    "12",
    "big",
    "dogs",
    "run",
]


def opened(path: str):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    codec = Codec(tokenizer, ChatTemplate(tokenizer))
    return load_model(path, torch.float32), codec


@pytest.fixture(scope="module", params=["tiny", "openstax-8m", "stories260k"])
def pair(request, tiny_path):
    """(model, codec) of a tiny random model and, where they are present, of two real ones."""
    path = tiny_path if request.param == "tiny" else str(SHARED / "models" / request.param)
    if not Path(path).is_dir():
        pytest.skip("the shared data is not here")
    model, codec = opened(path)
    with torch.no_grad():
        if request.param == "tiny":  # as initialised it hardly attends to anything
            for name, weight in model.named_parameters():
                weight *= 6 if "proj" in name else 1
        yield model, codec


@pytest.fixture(scope="module")
def reference(pair):
    """lm-eval's HFLM around the same model; it may not add BOS to texts scored as a whole, where it would stand twice."""
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    model, codec = pair
    return HFLM(pretrained=model, tokenizer=codec.tokenizer, batch_size=3, max_length=128)


def text(rng: random.Random, n: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(n))


def asked(kind: str, *arguments) -> list[Instance]:
    return [Instance(kind, {}, one, 0) for one in arguments]  # pyright: ignore[reportArgumentType]


def chats(codec: Codec, n: int) -> list[str]:
    rng = random.Random(n)
    return [codec.template.prompt((Turn("user", text(rng, rng.randrange(2, 12))),)) for _ in range(n)]


def pairs(codec: Codec) -> list[tuple[str, str]]:
    """Choices behind chat prompts, whole sentences, a prompt that opens its answer, one too long."""
    rng = random.Random(1)
    found = [(context, text(rng, rng.randrange(1, 6))) for context in chats(codec, 6) for _ in range(3)]
    found += [("", text(rng, 6)) for _ in range(4)]
    return [*found, (chats(codec, 1)[0] + "the ", "cat"), (chats(codec, 1)[0] + text(rng, 150), text(rng, 4))]


def plain_pairs(bos: str) -> list[tuple[str, str]]:
    """Continuations of plain texts that begin with BOS, with blanks on either side of the seam, and whole sentences."""
    rng = random.Random(1)
    found = [(f"{bos}{text(rng, 5)}:{end}", text(rng, rng.randrange(1, 6))) for end in (" ", "\n\n", "\n") for _ in range(4)]
    found += [(bos + text(rng, 5), " " + text(rng, 3)) for _ in range(4)] + [("", text(rng, 6)) for _ in range(4)]
    return [*found, (bos + text(rng, 150), " " + text(rng, 4))]


def test_log_likelihoods_are_those_of_lm_eval(pair, reference):
    model, codec = pair
    requests = asked("loglikelihood", *plain_pairs(codec.tokenizer.bos_token))
    ours = EvaluatedModel(model, codec, max_length=128).loglikelihood(requests)
    theirs = reference.loglikelihood(requests, disable_tqdm=True)
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in theirs], abs=1e-3)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]


def test_rolling_log_likelihoods_are_those_of_lm_eval(pair, reference, capsys):
    model, codec = pair
    rng = random.Random(2)
    requests = asked("loglikelihood_rolling", *[(text(rng, n),) for n in (1, 7, 120)])
    reference.add_bos_token = False
    theirs = reference.loglikelihood_rolling(requests, disable_tqdm=True)
    reference.add_bos_token = None
    ours = EvaluatedModel(model, codec, max_length=128).loglikelihood_rolling(requests)
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_greedy_texts_are_those_of_lm_eval(pair, reference):
    model, codec = pair
    prompts = [*chats(codec, 9), chats(codec, 1)[0] + text(random.Random(3), 150)]
    requests = asked(
        "generate_until",
        *[(p, {"until": ["e", "\n\n"] if i % 2 else [], "max_gen_toks": 4 + i}) for i, p in enumerate(prompts)],
    )
    ours = EvaluatedModel(model, codec, max_length=128).generate_until(requests)
    assert ours == reference.generate_until(requests, disable_tqdm=True)
    assert len(set(ours)) > 1


KINDS = {
    "pair": [
        {"question": "", "choices": [f"the cats by the {a} run", f"the cats by the {a} runs"], "answer": 0} for a in WORDS[:6]
    ],
    "text": [{"text": f"one {a} little cat sat by the old red house and saw 12 dogs"} for a in "ab"],
    "exact": [{"question": f"the {a} cat", "answer": "sat"} for a in WORDS[:4]],
    "numeric": [{"question": f"{n} and {n} dogs", "answer": 2 * n} for n in range(4)],
    "f1": [{"question": f"the {a} house and the", "answer": "old red house"} for a in WORDS[:4]],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_item_is_answered_as_lm_eval_answers_it(pair, reference, tmp_path, kind):
    model, codec = pair
    file = tmp_path / "items.jsonl"
    file.write_text("".join(json.dumps(row | {"type": kind}) + "\n" for row in KINDS[kind]))
    (task,) = load_jsonl(file)
    requests = Prepared(task, codec).instances
    ask = requests[0].request_type
    reference.add_bos_token = False if ask == "loglikelihood_rolling" else None
    theirs = getattr(reference, ask)(requests, disable_tqdm=True)
    reference.add_bos_token = None
    lm = EvaluatedModel(model, codec, max_length=128)
    assert lm._longest > 0
    ours = getattr(lm, ask)(requests)
    if ask == "generate_until":
        assert ours == theirs
        assert ours == EvaluatedModel(model, codec, max_length=128, token_budget=1).generate_until(requests)
    else:
        assert np.array(ours, float) == pytest.approx(np.array(theirs, float), abs=1e-3)


def test_batches_change_nothing(pair):
    model, codec = pair
    scored = [encode_pairs(codec, pairs(codec))[i] for i in range(20)]
    lm = EvaluatedModel(model, codec, max_length=128)
    continuations = [lm.fitted(*one) for one in scored]
    one, many = (likelihood.score(model, continuations, budget) for budget in (1, 5000))
    assert [v for v, _ in one] == pytest.approx([v for v, _ in many], abs=1e-4)
    prompts = [Prompt(ids, 5 + i, lambda _: False) for i, ids in enumerate(codec.encode(chats(codec, 20)))]
    alone = generate.continuations(model, prompts, codec.stops, 1)
    assert alone == generate.continuations(model, prompts, codec.stops, 200, 400)  # about eight together, others waiting
    assert alone == generate.continuations(model, prompts, codec.stops, 5000)


def test_sliding_windows_decode_as_transformers_does():
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "sliding_window": 6}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        model = MistralForCausalLM(MistralConfig(**sizes, **heads, pad_token_id=0, initializer_range=0.2)).eval()
        rows = [tuple(torch.randint(3, 97, (n,)).tolist()) for n in (5, 9, 9, 14)]
        ours = generate.continuations(model, [Prompt(row, 8, lambda _: False) for row in rows], frozenset(), 1000)
        for row, output in zip(rows, ours, strict=True):
            ids = torch.tensor([row])
            made = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, eos_token_id=None
            )
            assert made[0, len(row) :].tolist() == output


def test_a_choice_s_likelihood_is_the_models_own_loss(pair):
    model, codec = pair
    context, continuation = encode_pairs(codec, pairs(codec))[0]
    tokens = torch.tensor([context + continuation])
    labels = torch.tensor([[-100] * len(context) + list(continuation)])
    loss = model(input_ids=tokens, labels=labels).loss
    (value, _), *_ = likelihood.score(model, [likelihood.Continuation(context, continuation)], 1000)
    assert -value / len(continuation) == pytest.approx(loss.item(), abs=1e-4)


def test_bos_stands_once(pair):
    _, codec = pair
    bos = codec.tokenizer.bos_token_id
    for ids in codec.encode(["plain text", chats(codec, 1)[0], codec.tokenizer.bos_token + "with"]):
        assert ids[0] == bos
        assert bos not in ids[1:]
    assert bos not in codec.encode(["plain text"], whole=False)[0]


def test_chat_prompts_have_the_tokens_of_training(pair):
    _, codec = pair
    turns = (Turn("user", "the cat"),)
    assert list(codec.encode([codec.template.prompt(turns)])[0]) == codec.template.encode_prompt(turns)


def test_generated_texts_know_their_tokens(pair):
    model, codec = pair
    (answer,) = EvaluatedModel(model, codec, max_length=128).generate_until(
        asked("generate_until", (chats(codec, 1)[0], {"until": [], "max_gen_toks": 3}))
    )
    assert isinstance(answer, Generated)
    assert len(answer.tokens) == 3
    assert not answer.stopped


def test_until_stops_at_the_first_complete_text(pair):
    _, codec = pair
    ended = codec.ender(("ca",))
    ids = list(codec.encode(["the cat"], whole=False)[0])
    seen = [ended(ids[: n + 1]) for n in range(len(ids))]
    assert any(seen)
    assert not any(seen[:1])
    assert not ended(list(codec.encode(["the dog"], whole=False)[0]))


def test_finished_rows_leave_and_waiting_prompts_enter(pair, monkeypatch):
    model, codec = pair
    lengths = [8 if i % 4 == 0 else 2 for i in range(12)]
    ids = codec.encode(chats(codec, 12))
    prompts = [Prompt(one, 9, lambda tokens, n=n: len(tokens) == n) for one, n in zip(ids, lengths, strict=True)]
    rows = []
    real = generate.extend
    monkeypatch.setattr(generate, "extend", lambda m, p, tokens, *rest: rows.append(len(tokens)) or real(m, p, tokens, *rest))
    outputs = generate.continuations(model, prompts, frozenset(), 5000, 4 * max(p.room for p in prompts))
    assert [len(output) for output in outputs] == lengths
    assert max(rows) < 8
    assert sum(rows) <= 1.2 * sum(n - 1 for n in lengths)  # places of a batch that stood idle: a fifth at most


def test_joined_prefixes_remember_what_each_prompt_said(pair):
    model, codec = pair
    long, short, other = sorted(
        codec.encode([*chats(codec, 2), chats(codec, 1)[0] + "and so on and so on"]), key=len, reverse=True
    )
    rows = [prefix_tree.rows_of([text], 0, 1) for text in (long, short, other)]
    first, _ = kv_cache.prefill(model, rows[0] + rows[1])
    joined = kv_cache.Prefix.join([(first, torch.tensor([1])), (kv_cache.prefill(model, rows[2])[0], torch.tensor([0]))])
    assert joined.mask.shape[1] == max(len(short), len(other))
    step = torch.tensor([[7], [8]])
    found = kv_cache.extend(model, joined, step, torch.ones_like(step), torch.arange(2))
    whole = [prefix_tree.rows_of([text], 0, 1)[0] for text in ((*short, 7), (*other, 8))]
    assert torch.allclose(found, kv_cache.prefill(model, whole)[1], atol=1e-3)


def test_prompts_lose_their_beginning_to_leave_room_for_the_answer(pair, monkeypatch):
    model, codec = pair
    seen = []
    monkeypatch.setattr(generate, "continuations", lambda _, prompts, *rest, **__: seen.extend(prompts) or [[9]])
    prompt = chats(codec, 1)[0] + text(random.Random(3), 150)
    asked_for = asked("generate_until", (prompt, {"until": [], "max_gen_toks": 28}))
    EvaluatedModel(model, codec, max_length=128).generate_until(asked_for)
    assert seen[0].tokens == codec.encode([prompt])[0][-100:]
