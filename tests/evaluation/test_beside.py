"""What scorers are told beside an answer's text: how the base reads it, and its thoughts."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch

from harness.decoding import likelihood
from harness.decoding.likelihood import Continuation
from harness.errors import PlanError
from harness.evaluation.evaluator import Evaluator
from harness.tasks.suites import load_suite
from harness.tokens.chat_template import ChatTemplate

SCORER = """
def score(output, row):
    SEEN.append((output, dict(row)))
    bits = row.get("base_bits_per_byte", -1.0)
    return {"score": float("raw" in row), "bits": bits, "length": len(row.get("raw", ""))}


SEEN = []
DIRECTIONS = {"bits": False, "length": None}
"""
THINKING = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% if enable_thinking is defined and enable_thinking %}<think>\n"
    "{% else %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def written(folder: Path, sidecar: str) -> str:
    (folder / "score.py").write_text(SCORER)
    (folder / "say.toml").write_text(f'type = "python"\nscorer = "score.py:score"\nmax_tokens = 12\n{sidecar}')
    (folder / "say.jsonl").write_text("\n".join(json.dumps({"id": str(i), "question": f"Say {i}."}) for i in range(3)))
    return str(folder / "say.jsonl")


def test_the_scorer_is_told_how_the_base_reads_the_answer(tmp_path: Path, base) -> None:
    template = ChatTemplate(base.tokenizer)
    model = base.load(torch.float32)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weights in other.parameters():
            weights.add_(0.05 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)))
    (task,) = load_suite(written(tmp_path, "fluency = true"))
    evaluator = Evaluator([task], template, base.tokenizer, base=lambda: model)
    scores = evaluator.score(other)
    bits = scores[scores["metric"] == "bits"]
    assert not bits["higher_better"].any()
    # the same again, asked of the base directly
    expected = []
    for instance in evaluator.tasks[0].instances:
        answer = instance.resps[0].tokens
        (prompt,) = template.prompt_tokens([instance.args[0]])
        ((nats, _),) = likelihood.score(model, [Continuation(prompt, answer)], 10_000)
        expected.append(-nats / math.log(2) / len(base.tokenizer.decode(answer).encode()))
    assert len(expected) == 3
    assert bits["score"].tolist() == pytest.approx(expected, rel=1e-4)


def _seen(task):
    return task.task.scorer.function.__globals__["SEEN"]


def test_without_a_base_nothing_is_said_of_fluency(tmp_path: Path, base) -> None:
    (task,) = load_suite(written(tmp_path, "fluency = true"))
    model = base.load(torch.float32)
    scores = Evaluator([task], ChatTemplate(base.tokenizer), base.tokenizer).score(model)
    assert (scores[scores["metric"] == "bits"]["score"] == -1).all()


def test_fluency_is_part_of_the_question(tmp_path: Path, base) -> None:
    template = ChatTemplate(base.tokenizer)
    keys = []
    for sidecar in ("", "fluency = true"):
        (task,) = load_suite(written(tmp_path, sidecar))
        keys.append(Evaluator([task], template, base.tokenizer).key)
    assert keys[0] != keys[1]


def test_thoughts_are_asked_for_and_shown_to_the_scorer_alone(tmp_path: Path, base) -> None:
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.chat_template = THINKING
    template = ChatTemplate(tokenizer)
    assert template.drops_thoughts, "everything else is asked with thoughts skipped"
    (task,) = load_suite(written(tmp_path, "thinking = true"))
    evaluator = Evaluator([task], template, tokenizer, max_length=64)
    prompts = [instance.args[0] for instance in evaluator.tasks[0].instances]
    assert all(prompt.endswith("<think>\n") for prompt in prompts)
    scores = evaluator.score(base.load(torch.float32))
    assert (scores[scores["metric"] == "score"]["score"] == 1).all()
    for output, told in _seen(task)[-3:]:
        assert output == "" or "</think>" in told["raw"], "a thought that never ends is no answer"
        assert told["raw"] or not output


def test_templates_that_know_no_thoughts_leave_it_out(tmp_path: Path, base) -> None:
    (task,) = load_suite(written(tmp_path, "thinking = true"))
    evaluator = Evaluator([task], ChatTemplate(base.tokenizer), base.tokenizer)
    assert evaluator.tasks == []
    assert evaluator.notes == ["say: the chat template knows no thoughts: left out."]


def test_thinking_and_fluency_need_a_scorer(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    (tmp_path / "say.toml").write_text("thinking = true")
    with pytest.raises(PlanError, match="are told to a scorer"):
        load_suite(path)


def test_a_scorer_may_have_dataclasses(tmp_path: Path) -> None:
    """A module that is not in sys.modules cannot have any."""
    (tmp_path / "score.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n"
        "@dataclass\nclass Said:\n    text: str\n\ndef score(output, row):\n    return len(Said(output).text)\n"
    )
    (tmp_path / "say.toml").write_text('type = "python"\nscorer = "score.py:score"')
    (tmp_path / "say.jsonl").write_text(json.dumps({"question": "Say it."}))
    (task,) = load_suite(str(tmp_path / "say.jsonl"))
    assert task.task.process_results(task.task.docs[0], ["four"]) == {"score": 4.0}
