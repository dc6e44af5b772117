"""Free answers: the same for the same weights, stored as texts, judged by the base, stable or not under rewording."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest
import torch

from harness.errors import PlanError
from harness.evaluation import free_answers
from harness.evaluation.evaluator import Evaluator
from harness.evaluation.free_answers import Outputs, open_prompts, read_answer
from harness.store.schema import ITEM_COLUMNS
from harness.tasks.domain import domain_tasks
from harness.tasks.suites import load_suite
from harness.text import text_quality
from harness.tokens.chat_template import ChatTemplate
from tests.evaluation.test_evaluate import item_task, records

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def asker(base) -> Outputs:
    """Five domain prompts and four general ones, two of which declare rewrites."""
    template = ChatTemplate(base.tokenizer)
    docs = [{"id": str(i), "prompt": f"Say {i}", "targets": [str(i)], "cluster": ""} for i in range(4)]
    docs[0]["rewrites"], docs[1]["rewrites"] = ["Please say 0"], ["Say: 1", "1, say it"]
    options = {"channel": "generation", "chance": 0.0, "chat": True}
    tasks = [*domain_tasks(records(5), template, {}), item_task("echo", "exact_match", docs, **options)]
    model = base.load(torch.float32)
    evaluator = Evaluator(tasks, template, base.tokenizer, max_length=64)
    return Outputs(open_prompts(evaluator.tasks, records(5), template), evaluator, lambda: model, 64)


@pytest.fixture(scope="module")
def scores(asker, base) -> pd.DataFrame:
    return asker.score(base.load(torch.float32))


def moved(base):
    model = base.load(torch.float32)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight *= 40
    return model


def test_rows_have_the_stored_layout(asker, scores):
    assert {name: str(kind) for name, kind in scores.dtypes.items()} == ITEM_COLUMNS
    assert not scores.duplicated(["task", "metric", "item"]).any()
    primary = scores[scores["primary"]]
    assert primary.groupby("task").size().to_dict() == {
        "domain_greedy": 5,
        "domain_sampled": 5,
        "general_greedy": 4,
        "general_sampled": 4,
    }
    assert primary[["prompt", "output", "target"]].notna().all(axis=None)
    assert set(scores["metric"]) == set(free_answers.METRICS)


def test_the_same_weights_say_the_same_sampled_too(asker, base, scores):
    torch.manual_seed(99)
    state = torch.get_rng_state()
    pd.testing.assert_frame_equal(scores, asker.score(base.load(torch.float32)))
    assert torch.equal(state, torch.get_rng_state())


def test_sampling_is_not_greedy_and_other_weights_say_otherwise(asker, base, scores):
    texts = scores[scores["primary"]].pivot_table(index="item", columns="task", values="output", aggfunc="first")
    assert (texts["domain_greedy"] != texts["domain_sampled"]).any()
    other = asker.score(moved(base))
    assert other.loc[other["primary"], "output"].tolist() != scores.loc[scores["primary"], "output"].tolist()


def test_every_answer_has_the_same_room(asker, scores):
    assert asker.limit == 32
    length = scores[scores["metric"] == "length_tokens"].set_index(["task", "item"])["score"]
    stop = scores[scores["metric"] == "no_stop"].set_index(["task", "item"])["score"]
    assert length.max() <= 32 and (length[stop == 1] == 32).all()


def test_fluency_is_the_base_reading_the_answer(asker, base):
    """The base's own loss over prompt and answer, whoever gave it; the model in question gave these."""
    found = asker.score(moved(base))
    rows = found[found["task"] == "general_greedy"].pivot_table(index="item", columns="metric", values="score")
    prompt = next(p for p in asker.prompts if p.group == "general")
    answer = asker._answers(moved(base), [prompt.text], free_answers.most_likely)[0]
    said = [token for token in answer if token not in asker.codec.stops]
    ids = torch.tensor([[*asker._encoded(prompt.text), *said]])
    labels = ids.clone()
    labels[:, : -len(said)] = -100
    loss = asker.base()(input_ids=ids, labels=labels).loss.item()
    bits = loss * len(said) / math.log(2) / len(asker.codec.decode(said).encode())
    assert rows.loc[prompt.item, "base_bits_per_byte"] == pytest.approx(bits, rel=1e-4)


def test_stability_is_measured_where_rewrites_are_known(asker, scores):
    found = scores[scores["metric"] == "stability"]
    assert found.groupby("task").size().to_dict() == {"domain_greedy": 5, "general_greedy": 2}
    assert found["score"].between(0, 1).all()


def test_stability_by_hand(asker, monkeypatch):
    prompt = next(p for p in asker.prompts if len(p.reworded) == 2)
    monkeypatch.setattr(asker.codec, "decode", lambda tokens: {11: "The one.", 12: "one", 13: "two"}[tokens[0]])
    assert asker._stability(prompt, [11], [[12], [13]]) == 0.5
    assert asker._stability(prompt, [11], [[12], [11]]) == 1.0


def test_answers_are_read_as_their_scorer_reads_them():
    assert read_answer("numeric", "so it is 1,200.") == read_answer("numeric", "1200")
    assert read_answer("numeric", "5 %") == read_answer("numeric", "0.05")
    assert read_answer("letter", "B", ("x", "y")) == read_answer("letter", "The answer is (B)", ("x", "y")) == 1
    assert read_answer("exact_match", "The cat!") == read_answer("exact_match", "cat")
    assert read_answer("numeric", "none") == "none"


def test_another_prompt_is_another_question(asker, base):
    fewer = Outputs(asker.prompts[1:], Evaluator([], ChatTemplate(base.tokenizer), base.tokenizer), asker.base, 64)
    assert fewer.key != asker.key
    assert (
        fewer.key == Outputs(asker.prompts[1:], Evaluator([], ChatTemplate(base.tokenizer), base.tokenizer), asker.base, 64).key
    )


def test_a_stop_that_is_ignored_would_be_seen(asker, base, monkeypatch):
    """Planted fault: an answer that never stops must not read as one that stopped."""
    endless = lambda model, prompts, *_: [[70] * prompt.limit for prompt in prompts]  # noqa: E731
    monkeypatch.setattr(free_answers, "continuations", endless)
    found = asker.score(base.load(torch.float32))
    means = found.groupby("metric")["score"].mean()
    assert means["no_stop"] == 1 and means["rep3_token"] > 0.9
    assert set(text_quality.METRICS) < set(found["metric"])


def test_without_prompts_there_is_nothing_to_say(asker, base):
    """Continued pre-training on texts with suites of choices: no prompt to answer freely."""
    nobody = Outputs([], Evaluator([], ChatTemplate(base.tokenizer), base.tokenizer), asker.base, 64)
    found = nobody.score(base.load(torch.float32))
    assert found.empty and list(found.columns) == list(ITEM_COLUMNS)


def test_a_file_declares_rewrites_and_few_shot_prompts_have_none(base, tmp_path):
    """A rewrite stands alone, so it is no rewording of a prompt that shows examples first."""
    rows = [{"question": f"Say {i}", "answer": str(i), "type": "exact", "rewrites": [f"Please say {i}"]} for i in range(6)]
    path = tmp_path / "echo.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    template = ChatTemplate(base.tokenizer)

    def reworded() -> list[int]:
        evaluator = Evaluator(load_suite(str(path)), template, base.tokenizer, max_length=64)
        return [len(prompt.reworded) for prompt in open_prompts(evaluator.tasks, [], template)]

    assert reworded() == [1] * 6
    (tmp_path / "echo.toml").write_text("shots = 1\ndev = 2\n")
    assert reworded() == [0] * 4


def test_rewrites_that_are_no_texts_are_a_fault(tmp_path):
    path = tmp_path / "echo.jsonl"
    path.write_text(json.dumps({"question": "Say 1", "answer": "1", "rewrites": "Please say 1"}))
    with pytest.raises(PlanError, match=r"'rewrites' is .*; write a list"):
        load_suite(str(path))
