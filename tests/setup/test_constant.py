"""A constant answer: the best that can be gained without learning anything but what answers look like."""

from __future__ import annotations

import pytest
from lm_eval.api.instance import Instance

from harness.files.records import Record
from harness.files.turns import Turn
from harness.setup.constant_answers import Answers, best_constant
from harness.tasks.domain import Kinds
from harness.text.answer_metrics import RequestedMetric


def record(question: str, answer: str, **told) -> Record:
    turns = (Turn("user", question), Turn("assistant", answer))
    return Record(f"{question} {answer}", turns, "made up", **told)


@pytest.mark.parametrize(
    ("metric", "answers", "best"),
    [
        ("exact_match", ["no", "yes", "no", "maybe"], "no"),
        ("exact_match", ["b", "a"], "a"),  # of equals the first by text
        ("numeric", ["4", "7", "4.0"], "4"),  # what counts as equal counts together
        ("token_f1", ["the red fox", "the red dog", "a blue whale swims"], "the red dog"),
    ],
)
def test_the_constant_answer_is_what_scores_best_on_training_answers(metric, answers, best):
    records = [record(f"q{place}", answer) for place, answer in enumerate(answers)]
    assert best_constant(records, RequestedMetric(metric)) == best


class Plain:
    """A codec of words."""

    def encode(self, texts, whole=True):
        return [tuple(range(len(text.split()))) for text in texts]


def asked(task: str, **doc) -> Instance:
    return Instance("generate_until", doc, ("prompt", {}), 0, (task, 0, 1))


def test_each_task_has_its_answer_and_a_guess_is_one_of_the_choices():
    tasks = [asked("mood", id="a", choices=[]), *(asked("pick", id=str(i), choices=["x", "y", "z"]) for i in range(300))]
    constant = Answers(Plain(), {"mood": "glad", "pick": "y"}).generate_until(tasks)
    guessed = Answers(Plain(), {"mood": "glad", "pick": "y"}, guess=True).generate_until(tasks)
    assert constant == ["glad"] + ["y"] * 300 and guessed[0] == "glad"
    assert all(60 < guessed[1:].count(choice) < 140 for choice in "xyz")
    assert guessed == Answers(Plain(), {"mood": "glad", "pick": "y"}, guess=True).generate_until(tasks)


def test_dev_items_are_measured_as_test_items_are():
    """Too few on dev for a task of their own, they were put in with others, and got another metric."""
    test = [record(f"mood {i}?", "glad" if i % 2 else "sad", kind="mood") for i in range(30)]
    test += [record(f"sum {i}?", str(i), kind="sum") for i in range(30)]
    dev = [
        record("mood?", "sad", kind="mood"),
        *(record(f"sum {i}", str(i), kind="sum") for i in range(3)),
        record("x", "y", kind="new"),
    ]
    alone, alike = Kinds.of(dev), Kinds.of(test)
    assert set(alone.split(dev)) != {"mood", "sum"}
    assert {kind: len(part) for kind, part in alike.split(dev).items()} == {"mood": 1, "sum": 3}, "none that test lacks"
    assert {kind: asked.metric for kind, asked in alike.metrics.items()} == {"mood": "exact_match", "sum": "numeric"}
