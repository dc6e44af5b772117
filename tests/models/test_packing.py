"""Packing, continued pre-training, gradient checkpointing: nothing leaks, nothing is lost, everything is charged."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import pairwise

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.commands.compare import compare
from harness.contract import Example
from harness.data.split import load_dataset
from harness.errors import PlanError
from harness.files.records import read_records
from harness.models import packed_attention
from harness.models.base_model import weights_hash
from harness.models.batches import collate, pack, packs
from harness.models.flops import Shape
from harness.models.forward import logits_at, nll
from harness.models.packed_attention import check_packing, use_packing
from harness.store.comparisons import read_comparison
from harness.store.runs import RunStore
from harness.tokens.plain_texts import encode_texts
from tests.support.training import examples, make_run, trained


@pytest.fixture(scope="module")
def packed_model(base):
    model = base.load(torch.float32)
    use_packing(model)
    return model


# --- attention -------------------------------------------------------------------------------------------------------


def test_a_packed_loss_is_every_documents_own(base, packed_model):
    several = examples(7)
    found, logits = nll(packed_model, pack(several))
    plain = base.load(torch.float32)
    apart = torch.cat([nll(plain, collate([one]))[0] for one in several])
    assert torch.allclose(found, apart, atol=1e-5) and logits.shape[0] == len(apart)


def test_nothing_leaks_from_one_document_to_another(packed_model):
    first, second, third = examples(3)
    other = Example("other", tuple(reversed(first.tokens)), first.supervised)
    before, after = (nll(packed_model, pack([one, second, third]))[0] for one in (first, other))
    mine = sum(first.supervised[1:])
    assert torch.equal(before[mine:], after[mine:]), "later documents are the same bit for bit"
    assert not torch.equal(before[:mine], after[:mine])


@pytest.mark.parametrize("told", [lambda batch: {}, lambda batch: {"attention_mask": batch.mask}])
def test_a_model_that_lets_documents_see_each_other_is_refused(base, monkeypatch, told):
    check_packing(base.load(torch.float32))
    monkeypatch.setattr("harness.models.forward.inputs_of", told)
    with pytest.raises(PlanError, match="does not keep packed texts apart"):
        check_packing(base.load(torch.float32))


def test_a_wrapped_model_is_tried_too(base, monkeypatch, tmp_path):
    monkeypatch.setattr("harness.models.forward.inputs_of", lambda batch: {})
    with pytest.raises(PlanError, match="PeftModel does not keep packed texts apart"):
        trained(make_run(base, "lora", pack_length=64), tmp_path)


def test_a_document_longer_than_the_window_is_refused():
    query = torch.zeros(1, 2, 12, 4)
    with pytest.raises(ValueError, match="window"):
        packed_attention.attend_within(torch.nn.Module(), query, query, query, None, documents=(4, 8), sliding_window=6)


def varlen_by_hand(query, key, value, *sizes, scale, window_size, enable_gqa):
    """What torch documents of `varlen_attn`, (T, H, D) to (T, H, D), with (T, T) weights; its own runs on GPUs only."""
    ends, of_keys, most, of_key = sizes
    assert ends.dtype == torch.int32 and torch.equal(ends, of_keys) and most == of_key == int(ends.diff().max())
    assert enable_gqa == (query.shape[1] != key.shape[1])
    key, value = (tensor.repeat_interleave(query.shape[1] // key.shape[1], 1) for tensor in (key, value))
    weights = torch.einsum("qhd,khd->hqk", query, key) * scale
    place = torch.arange(len(query))
    document = torch.bucketize(place, ends[1:-1], right=True)
    seen = document[:, None] == document[None]
    if window_size == (-1, 0):
        seen &= place[:, None] >= place[None]
    return torch.einsum("hqk,khd->qhd", weights.masked_fill(~seen, -torch.inf).softmax(-1), value)


def test_one_kernel_for_all_documents_is_asked_the_same(base, packed_model, monkeypatch):
    """Losses and gradients of a row of seven, through what a GPU would be asked."""
    batch, found = pack(examples(7)), []
    for at_once in (False, True):
        monkeypatch.setattr(packed_attention, "has_one_kernel", lambda query, at_once=at_once: at_once)
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_by_hand)
        losses = nll(packed_model, batch)[0]
        losses.sum().backward()
        found.append((losses.detach(), [p.grad for p in packed_model.parameters()]))
        packed_model.zero_grad()
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert all(torch.allclose(one, two, atol=1e-4) for one, two in zip(found[0][1], found[1][1], strict=True))
    assert not torch.equal(found[0][0], found[1][0]), "another order of sums: it was asked"


def test_a_batch_that_is_not_packed_is_as_ever(base, packed_model):
    batch = collate(examples(5))
    assert torch.allclose(logits_at(packed_model, batch), logits_at(base.load(torch.float32), batch), atol=1e-5)


def test_supervised_tokens_know_their_document():
    several = examples(3) + examples(2, "general")
    batch = pack(several)
    expected = [i for i, example in enumerate(several) for s in example.supervised[1:] if s]
    assert batch.rows.tolist() == expected == collate(several).rows.tolist()
    assert batch.from_source("general").tolist() == [i >= 3 for i in expected]


# --- layout ----------------------------------------------------------------------------------------------------------


def sized(*lengths: int) -> list[Example]:
    return [Example(f"{i:02d}", tuple(range(n)), (True,) * n) for i, n in enumerate(lengths)]


def test_best_fit_fills_the_fullest_pack_that_has_room():
    groups = packs(sized(6, 5, 4, 3, 2), 10)
    assert [[len(e) for e in group] for group in groups] == [[6, 4], [5, 3, 2]]


def test_packs_hold_everything_once_within_their_room_whatever_the_order():
    rng = random.Random(1)
    several = sized(*(rng.randrange(1, 60) for _ in range(200)))
    groups = packs(several, 64)
    assert Counter(e.id for group in groups for e in group) == Counter(e.id for e in several)
    assert max(sum(map(len, group)) for group in groups) <= 64
    least = max(sum(map(len, several)) / 64, sum(len(e) > 32 for e in several))
    assert len(groups) <= 1.05 * least, "hardly a pack more than any packing needs"
    assert packs(list(reversed(several)), 64) == groups
    assert [len(group) for group in packs(sized(100, 3), 64)] == [1, 1], "too long an example stands alone, whole"


def test_there_is_no_padding_to_train_on():
    several = sized(7, 3, 5)
    batch = pack(several)
    assert batch.tokens.shape == (1, 15) and batch.mask.all()
    assert len(batch.labels) == 15 - 3 and batch.labels.tolist() == [t for e in several for t in e.tokens[1:]]


def texts_of(tmp_path, *texts: str):
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return read_records(str(path), "text")


@pytest.mark.parametrize("room", [8, 50, 51, 52, 53, 256])
def test_every_token_is_a_target_exactly_once_and_no_tail_is_lost(base, tmp_path, room):
    texts = ["a" * 51, "short", "The quick brown fox. " * 20]
    records = texts_of(tmp_path, *texts)
    pieces = encode_texts(base.tokenizer, records, "domain", room)
    assert max(map(len, pieces)) <= room and len({e.id for e in pieces}) == len(pieces)
    for record, text in zip(records, texts, strict=True):
        own = [e for e in pieces if e.id.partition(".")[0] == record.id]
        trained_on = [t for e in own for t, s in zip(e.tokens, e.supervised, strict=True) if s]
        assert trained_on == [*base.tokenizer(text)["input_ids"], base.tokenizer.eos_token_id]
        assert own[0].tokens[0] == base.tokenizer.bos_token_id
        assert all(two.tokens[0] == one.tokens[-1] for one, two in pairwise(own)), "its own context"


# --- cost ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["", "lora"])
def test_a_packed_step_is_charged_what_it_executes(base, recipe):
    run = make_run(base, recipe, pack_length=64)
    model = run.load()
    for method in run.filled("trainable"):
        model = method.trainable(model, run)
    batch = run.collate(examples(4))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        logits_at(model, batch).sum().backward()
    assert run.price("train", True).of(Shape.of(batch)) == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert run.step_price(examples(4))[0] == pytest.approx(
        sum(run.price("train", True).of(Shape.of(b)) for b in run.batches(examples(4)))
    )


def test_attention_is_priced_by_the_documents_lengths():
    several = sized(7, 3, 5)
    assert Shape.of(pack(several)) == Shape.packed(several)
    assert Shape.packed(several, "cuda").squares == 49 + 9 + 25 and Shape.padded(several).squares == 3 * 49
    assert Shape.packed(several).squares == 49 + 2 * 25, "on a CPU 3 and 5 share a segment, padding included"


def test_checkpointing_recomputes_is_charged_and_changes_nothing_else(base, tmp_path):
    (plain, kept), (again, saved) = (
        (run := make_run(base, "lora(dropout=0.3)+nlirg", checkpointing=c), trained(run, tmp_path / str(c))[0]) for c in (0, 1)
    )
    assert weights_hash(kept) == weights_hash(saved)
    assert 1.1 < again.ledger.record()["flops"] / plain.ledger.record()["flops"] < 1.5


def test_checkpointing_is_charged_its_true_flops(base):
    run = make_run(base, "", checkpointing=True)
    (batch,) = list(run.batches(examples(4)))[:1]
    model = run.load().train()
    with FlopCounterMode(display=False) as counter:
        logits_at(model, batch).sum().backward()
    assert run.price("train", True).of(Shape.of(batch)) == pytest.approx(counter.get_total_flops(), rel=0.02)


# --- training --------------------------------------------------------------------------------------------------------


def test_packed_fine_tuning_trains_what_padded_fine_tuning_trains(base, tmp_path):
    padded, packed = (trained(make_run(base, "sft", pack_length=p), tmp_path / str(p))[0] for p in (None, 64))
    assert all(torch.allclose(padded[name], packed[name], atol=1e-4) for name in padded)
    assert weights_hash(padded) != base.hash


@pytest.mark.parametrize("recipe", ["nlirg", "distill", "ewc", "mix", "lora+nlirg"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_methods_work_packed_and_inside_the_budget(base, recipe, precision, tmp_path):
    run = make_run(base, recipe, meter="flops", allowed=3e8, pack_length=64, precision=precision)
    weights, progress = trained(run, tmp_path)
    assert progress.steps > 0 and all(tensor.isfinite().all() for tensor in weights.values())
    assert -0.02 < run.ledger.record()["overshoot"] <= 0.01


# --- plain texts -----------------------------------------------------------------------------------------------------


def test_a_text_file_holds_what_stands_between_empty_lines(tmp_path):
    (tmp_path / "d.txt").write_text("One line\nand another.\n\n \nTwo.\n")
    assert [record.text for record in read_records(str(tmp_path / "d.txt"), "text")] == ["One line\nand another.", "Two."]


def test_texts_and_conversations_are_not_mistaken_for_each_other(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"text": "Once."}\n')
    with pytest.raises(PlanError, match="mode cpt"):
        read_records(str(tmp_path / "d.jsonl"))
    (tmp_path / "d.jsonl").write_text('{"instruction": "Add.", "output": "3"}\n')
    with pytest.raises(PlanError, match="no 'text'"):
        read_records(str(tmp_path / "d.jsonl"), "text")
    assert read_records(str(tmp_path / "d.jsonl"), "both")[0].text == ""


def test_texts_are_split_and_their_copies_stay_together(tmp_path):
    rng, words = random.Random(0), list("abcdefgh")
    texts = [" ".join(rng.choice(words) for _ in range(30)) for _ in range(300)]
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in [*texts, *texts[:5]]))
    data = load_dataset(str(tmp_path / "d.jsonl"), accept="text")
    assert len(data.train) > 150 and len(data.dev) > 10 and len(data.test) > 50
    assert not {r.id for r in data.train} & {r.id for r in (*data.test, *data.dev)}
    assert len(set(data.cluster_of.values())) > 200, "texts that ask nothing are not all alike"


def test_tokens_before_every_row_are_refused(tiny_path, tmp_path):
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps({"text": f"text {i} of many " * (i % 7 + 1)}) for i in range(60)))
    with pytest.raises(PlanError, match="prompt is left out: its virtual tokens stand once a row"):
        compare(data=str(tmp_path / "d.jsonl"), model=tiny_path, suites="x", recipes="prompt", mode="cpt", quiet=True)


@pytest.mark.slow
def test_continued_pre_training_gains_bits_per_byte(tiny_path, tmp_path):
    rng, words = random.Random(0), ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    texts = [" ".join(rng.choice(words) for _ in range(rng.randrange(5, 80))) for _ in range(160)]
    general = [{"instruction": f"Say {i}", "output": str(i)} for i in range(60)]
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in texts))
    (tmp_path / "general.json").write_text(json.dumps(general))
    (tmp_path / "suite.jsonl").write_text("\n".join(json.dumps({"question": f"Say {i}", "answer": str(i)}) for i in range(20)))
    outcome = compare(
        data=str(tmp_path / "d.jsonl"), model=tiny_path, general=str(tmp_path / "general.json"), out=str(tmp_path / "out"),
        suites=str(tmp_path / "suite.jsonl"), recipes="sft nlirg mix", mode="cpt", pack_length=128, budget="2epochs",
        batch_size=8, learning_rate=3e-3, quiet=True,
    )  # fmt: skip
    assert not outcome.failed
    comparison = read_comparison(outcome.folder, RunStore(tmp_path / "out" / "runs"))
    primary = comparison.scores.query("group == 'domain' and primary")
    assert set(primary["metric"]) == {"bits_per_byte"}
    bits, table = primary.groupby("row")["score"].mean(), outcome.report.table.set_index("row")
    assert bits["sft"] < bits["base"] - 0.5
    assert table.loc["sft", "gain"] == pytest.approx(100 * (bits["base"] - bits["sft"]), rel=1e-3), "a drop is a gain"
    assert outcome.report.summary.gain_unit == "1/100 bit per byte"
