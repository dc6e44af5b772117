"""The evaluator: its invariants, its rows, its sub-samples."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from harness.errors import PlanError
from harness.evaluation.evaluator import Evaluator
from harness.evaluation.item_rows import headline, item_score
from harness.evaluation.undisturbed import undisturbed
from harness.files.records import Record, record_id
from harness.files.turns import Turn
from harness.store.journal import Journal
from harness.store.schema import ITEM_COLUMNS
from harness.tasks.domain import domain_tasks
from harness.tasks.eval_task import EvalTask
from harness.tasks.item_task import ItemTask
from harness.tasks.suites import load_suite
from harness.tokens.chat_template import ChatTemplate
from tests.support.training import examples
from tests.tasks.test_tasks import suite_of_yaml

torch.set_num_threads(1)
COLOURS = ("red", "blue", "green")


def records(n: int) -> list[Record]:
    found = []
    for i in range(n):
        turns = (Turn("user", f"Colour of {i}?"), Turn("assistant", COLOURS[i % 3]))
        found.append(Record(record_id(turns), turns, "test"))
    return found


def item_task(name: str, kind: str, docs: list[dict], **changes) -> EvalTask:
    task = ItemTask(name, kind, docs)
    settings = {"family": name, "group": "general", "seen": False, "channel": "choice", "metric": task.metric, "chance": None}
    settings |= {"chat": kind == "choice", "higher_better": kind != "text", "items": len(docs)} | changes
    return EvalTask(name=name, task=task, **settings)


def tasks(template: ChatTemplate) -> list[EvalTask]:
    """Generated domain answers, choices, pairs and text."""
    choices = [
        {"id": str(i), "prompt": f"Pick {i}", "choices": list(COLOURS), "answer": i % 3, "cluster": "c"} for i in range(6)
    ]
    pairs = [
        {"id": str(i), "prompt": "", "choices": [f"He runs {i}.", f"He run {i}."], "answer": 0, "cluster": ""} for i in range(4)
    ]
    text = [{"id": "t", "prompt": "", "targets": ["Once upon a time."], "cluster": ""}]
    return [
        *domain_tasks(records(8), template, {record.id: "one" for record in records(8)}),
        item_task("choices", "choice", choices),
        item_task("pairs", "pair", pairs),
        item_task("text", "text", text, chance=0.0),
    ]


@pytest.fixture(scope="module")
def evaluator(base) -> Evaluator:
    template = ChatTemplate(base.tokenizer)
    drift = {"domain": examples(6), "general": examples(4, "general")}
    model = base.load(torch.float32)
    return Evaluator(tasks(template), template, base.tokenizer, base=lambda: model, drift_examples=drift)


@pytest.fixture(scope="module")
def scores(evaluator, base) -> pd.DataFrame:
    return evaluator.score(base.load(torch.float32))


def test_rows_have_the_stored_layout(scores):
    assert list(scores.columns) == list(ITEM_COLUMNS)
    assert {name: str(kind) for name, kind in scores.dtypes.items()} == ITEM_COLUMNS
    assert not scores.duplicated(["task", "metric", "item"]).any()


def test_base_against_base_is_zero(evaluator, base, scores):
    again = evaluator.score(base.load(torch.float32))
    pd.testing.assert_frame_equal(scores, again)
    assert set(scores.loc[scores["metric"] == "kl_to_base", "score"]) == {0.0}


def test_other_weights_score_otherwise(evaluator, base, scores):
    model = base.load(torch.float32)
    with torch.no_grad():
        model.model.norm.weight *= 3
        model.model.layers[0].mlp.down_proj.weight *= 40
    moved = evaluator.score(model, fraction=0.5, alpha=0.25)
    fresh = Evaluator(tasks(evaluator.codec.template), evaluator.codec.template, base.tokenizer).score(model)
    assert moved.loc[moved["primary"], "output"].tolist() == fresh.loc[fresh["primary"], "output"].tolist()
    assert moved.loc[moved["primary"], "output"].tolist() != scores.loc[scores["primary"], "output"].tolist()
    assert (moved.loc[moved["metric"] == "kl_to_base", "score"] > 0).all()
    assert set(moved["fraction"]) == {0.5}
    assert set(moved["alpha"]) == {0.25}


def test_scoring_leaves_everything_as_it_was(evaluator, base):
    model = base.load(torch.float32).train()
    model.lm_head.eval()
    before = [module.training for module in model.modules()]
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    config = model.config.to_dict()
    modes: set[bool] = set()
    model.model.register_forward_hook(lambda module, *_: modes.add(module.training))
    evaluator.score(model)
    assert modes == {False}  # without dropout, though it is in training
    assert [module.training for module in model.modules()] == before
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[:2]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert model.config.to_dict() == config


def test_primary_rows_carry_texts_and_chance(scores):
    primary = scores[scores["primary"]]
    assert primary.groupby("task").size().to_dict() == {"choices": 6, "domain_exact_match": 8, "pairs": 4, "text": 1}
    assert primary["target"].notna().all()
    assert scores.loc[~scores["primary"], ["prompt", "output", "target"]].isna().all(axis=None)
    assert set(scores.loc[~scores["primary"], "chance"]) == {0.0}
    choice = primary[primary["task"] == "choices"]
    assert set(choice["chance"]) == {1 / 3}
    chances = {str(task): set(part["chance"]) for task, part in primary.groupby("task")}
    assert chances == {"choices": {1 / 3}, "domain_exact_match": {0.0}, "pairs": {0.5}, "text": {0.0}}
    assert set(choice["output"]) <= set(COLOURS)
    assert ((choice["output"] == choice["target"]) == (choice["score"] == 1)).all()
    assert set(primary.loc[primary["task"] == "domain_exact_match", "cluster"]) == {"one"}
    assert (primary.loc[primary["task"] == "pairs", "cluster"] == primary.loc[primary["task"] == "pairs", "item"]).all()


def test_generated_answers_have_their_quality(scores):
    found = scores[scores["channel"] == "degeneration"]
    assert set(found["task"]) == {"domain_exact_match"}
    assert set(found["metric"]) >= {"rep3_word", "rep3_token", "rep4_word", "length_tokens", "no_stop", "compression"}
    assert not found["primary"].any()


def test_held_out_loss_is_likelihood_and_kl_is_drift(scores):
    held_out = scores[scores["family"] == "domain_held_out"]
    channels = held_out.groupby("metric")["channel"].first().to_dict()
    assert channels == {"nll": "likelihood", "kl_to_base": "drift", "bits_per_byte": "drift"}
    assert held_out.groupby("metric").size().eq(6).all()


def test_items_keep_their_ids_in_any_order(base, scores):
    template = ChatTemplate(base.tokenizer)
    turned = [dataclasses.replace(t, task=ItemTask(t.name, t.task.kind, t.task.docs[::-1])) for t in tasks(template)[1:]]
    again = Evaluator(turned, template, base.tokenizer).score(base.load(torch.float32))
    both = scores[scores["primary"]].merge(again[again["primary"]], on=["task", "item"])
    assert len(both) == 11
    assert (both["target_x"] == both["target_y"]).all()
    assert both["score_x"].to_numpy() == pytest.approx(both["score_y"].to_numpy(), abs=1e-4)


def test_a_sample_s_scores_are_part_of_all_scores(evaluator, base, scores):
    sample = evaluator.sample(domain=4, general=6, drift=2)
    own, part = sample.score(base.load(torch.float32)), sample.part_of(scores)
    both = own.merge(part, on=["task", "metric", "item"])
    assert len(both) == len(own) == len(part)
    assert both["score_x"].to_numpy() == pytest.approx(both["score_y"].to_numpy(), abs=1e-4, nan_ok=True)
    assert set(own[own["channel"] == "drift"].groupby("task")["item"].nunique()) == {2}


def test_equal_documents_are_two_items(base):
    docs = [{"id": "1", "prompt": "Pick", "choices": ["a", "b"], "answer": 0, "cluster": ""}] * 2
    template = ChatTemplate(base.tokenizer)
    found = Evaluator([item_task("twins", "choice", docs)], template, base.tokenizer).score(base.load(torch.float32))
    assert found.loc[found["primary"], "item"].nunique() == 2


def test_a_sample_is_part_of_the_whole(evaluator, base, scores):
    part = evaluator.sample(domain=3, general=6, seed=1)
    found = part.score(base.load(torch.float32))
    primary = found[found["primary"]]
    assert primary.groupby("task").size().to_dict() == {"choices": 2, "domain_exact_match": 3, "pairs": 2, "text": 1}
    both = primary.merge(scores, on=["task", "item", "metric"])
    assert len(both) == len(primary)
    assert both["score_x"].to_numpy() == pytest.approx(both["score_y"].to_numpy(), abs=1e-4)
    assert "drift" not in set(found["channel"])
    assert evaluator.sample(3, 6, seed=1).key == part.key
    assert evaluator.sample(3, 6, seed=2).key != part.key


def test_the_key_names_the_question(evaluator, base):
    template = ChatTemplate(base.tokenizer)
    asked = tasks(template)

    def key(tasks, **options) -> str:
        return Evaluator(tasks, template, base.tokenizer, **options).key

    assert key(asked) == key(tasks(template))
    assert key(asked) != evaluator.key  # without drift
    assert key(asked[:-1]) != key(asked)
    other = dataclasses.replace(asked[1], metric="acc_bytes")
    assert key([other]) != key(asked[1:2])
    changed = tasks(template)
    changed[1].task.docs[0]["choices"][0] = "pink"
    assert key(changed) != key(asked)


def test_what_was_stored_before_an_option_existed_is_still_found(base, monkeypatch):
    monkeypatch.setattr("harness.evaluation.evaluator.key_of", lambda question: question)
    template = ChatTemplate(base.tokenizer)

    def asked(**options) -> Any:
        return Evaluator(tasks(template)[:1], template, base.tokenizer, **options).key

    plain = asked()
    assert asked(backend="hf", scoring="float32") == plain and not {"backend", "scoring"} & plain.keys()
    assert asked(backend="vllm") == plain | {"backend": "vllm"}
    assert asked(scoring="bfloat16") == plain | {"scoring": "bfloat16"}


def test_a_name_of_two_tasks_is_refused(base):
    template = ChatTemplate(base.tokenizer)
    twice = [*tasks(template), *tasks(template)[1:2]]
    with pytest.raises(PlanError, match="'choices' comes from two suites; name it once"):
        Evaluator(twice, template, base.tokenizer)


def test_answers_that_the_journal_has_are_not_computed_again(evaluator, base, tmp_path):
    asked, model = evaluator.sample(domain=1, general=2), base.load(torch.float32)
    first = asked.score(model, journal=Journal(tmp_path / "final.journal"))
    model.forward = lambda *_, **__: pytest.fail("it was computed")
    again = asked.score(model, journal=Journal(tmp_path / "final.journal"))
    pd.testing.assert_frame_equal(again, first)


def test_summary_and_notes(evaluator, base):
    assert evaluator.summary == [
        {"name": "domain", "tasks": ["domain_exact_match"], "items": 8, "families": {"domain_exact_match": 8}, "areas": {}},
        {
            "name": "",
            "tasks": ["choices", "pairs", "text"],
            "items": 11,
            "families": {"choices": 6, "pairs": 4, "text": 1},
            "areas": {"choices": "can", "pairs": "can", "text": "can"},
        },
    ]
    assert any("exact match, picked" in note for note in evaluator.notes)
    docs = [{"id": "1", "prompt": "long " * 200, "choices": ["a", "b"], "answer": 0, "cluster": ""}]
    template = ChatTemplate(base.tokenizer)
    long = Evaluator([item_task("long", "choice", docs)], template, base.tokenizer, base=lambda: base.load(torch.float32))
    assert long.notes == ["long: 1 of 1 prompts are longer than the model's context and lose their beginning."]


def test_lm_eval_tasks_are_scored_as_lm_eval_scores_them(base, tmp_path):
    from lm_eval.evaluator import evaluate

    from harness.evaluation.lm_eval_model import EvaluatedModel

    template = ChatTemplate(base.tokenizer)
    (task,) = load_suite(suite_of_yaml(tmp_path))
    ours = Evaluator([task], template, base.tokenizer)
    model = base.load(torch.float32)
    found = ours.score(model)
    (plain,) = load_suite(suite_of_yaml(tmp_path))
    lm = EvaluatedModel(model, ours.codec)
    result = evaluate(lm, {"tasks": {"t": plain.task}}, bootstrap_iters=0, apply_chat_template=True)
    for metric in ("acc", "acc_norm"):
        assert found.loc[found["metric"] == metric, "score"].mean() == result["results"]["t"][f"{metric},none"]
    assert set(found.loc[found["primary"], "metric"]) == {"acc_norm"}
    assert found.loc[found["primary"], "prompt"].item().startswith("<bos><s>user\nWhich 0?")


def test_few_shot_prompts_do_not_depend_on_the_sample(base, tmp_path):
    template = ChatTemplate(base.tokenizer)

    def prompts(places: set[int] | None) -> dict[int, str]:
        (task,) = load_suite(suite_of_yaml(tmp_path, "num_fewshot: 2\nfewshot_split: test", rows=9))
        (ready,) = Evaluator([task], template, base.tokenizer).tasks
        return {i.doc_id: i.args[0] for i in (ready.only(places) if places else ready).instances}

    whole = prompts(None)
    assert whole[5].count("Which") == 3
    assert prompts({2, 5}) == {place: whole[place] for place in (2, 5)}


def test_headline_averages_families_first():
    rows = [("general", "a", "a1", 1.0), ("general", "a", "a2", 0.0), ("general", "b", "b", 1.0), ("domain", "d", "d", 0.25)]
    frame = pd.DataFrame(rows, columns=["group", "family", "task", "score"]).assign(primary=True, higher_better=True)
    worse = frame.assign(higher_better=False, score=9.0)
    assert headline(pd.concat([frame, worse])) == {"domain": 0.25, "retention": 0.75}


def test_corpus_metrics_have_no_item_score():
    assert item_score("acc", True) == 1.0
    assert item_score("f1", (1, 0)) is None
    assert item_score("brier_score", (0, [0.75, 0.25])) == pytest.approx(0.125)
    assert item_score("bits_per_byte", (-6.931471805599453, 10)) == pytest.approx(1.0)


def test_a_limit_is_said_and_draws_the_same_items_whatever_the_order(tiny_path, tmp_path):
    """`limit` keeps items by their content: a shuffled file gives the same ones."""
    import json

    from harness.decoding.open_model import open_base
    from harness.tasks.suites import load_suite
    from harness.tokens.chat_template import ChatTemplate

    base = open_base(tiny_path)
    rows = [json.dumps({"question": f"Say w{i}", "answer": f"w{i}"}) for i in range(30)]
    drawn = []
    for order in (rows, rows[::-1]):
        (tmp_path / "say.jsonl").write_text("\n".join(order))
        tasks = load_suite(str(tmp_path / "say.jsonl"))
        evaluator = Evaluator(tasks, ChatTemplate(base.tokenizer), base.tokenizer, max_length=64, limit=7)
        drawn.append({doc["prompt"] for task in evaluator.tasks for doc in task.docs.values()})
        assert any("7 of 30 items" in note for note in evaluator.notes)
    assert drawn[0] == drawn[1] and len(drawn[0]) == 7


def test_choice_items_tell_how_sure_the_model_is(scores):
    """Confidence and correctness of the same softmax whose largest entry is the answer that `acc` scores."""
    found = scores[scores["channel"] == "calibration"].pivot_table(index=["task", "item"], columns="metric", values="score")
    assert set(found.index.get_level_values("task")) == {"choices", "pairs"} and len(found) == 10
    acc = scores[scores["metric"] == "acc"].set_index(["task", "item"])["score"]
    assert (found["correct"] == acc.loc[found.index]).all()
    assert (
        found["confidence"].between(1 / 3, 1).all() and found["brier"].between(0, 2).all() and (found["nll_choice"] > 0).all()
    )


def test_only_the_generators_of_the_models_own_devices_are_touched(monkeypatch):
    """To ask other GPUs for theirs would set these up, for every process of its own."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: pytest.fail(f"{device} is set up"))
    with undisturbed(torch.nn.Linear(2, 2)):
        pass
