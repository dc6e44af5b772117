"""The words of stored records are types, and stay the words they were."""

from __future__ import annotations

import json

import pytest

from harness.errors import PlanError
from harness.store.question import Question
from harness.store.runs import RunStore
from harness.vocabulary import EvalKind, Role, Status, Track


def test_records_hold_plain_words(tmp_path):
    run = RunStore(tmp_path).run("0" * 16)
    run.end(Status.OUT_OF_MEMORY, "memory ran out")
    assert run.read("status") == {"status": "out_of_memory", "reason": "memory ran out", "traceback": None}
    assert type(run.read("status")["status"]) is str and run.status is Status.OUT_OF_MEMORY


def test_a_question_written_with_types_has_the_key_of_the_plain_words():
    assert Question({"role": Role.RECIPE}).key == Question({"role": "recipe"}).key
    assert json.dumps({EvalKind.FINAL: Track.FREE}) == '{"final": "free"}'


def test_a_word_that_there_is_not_is_refused_and_named_and_a_run_with_such_a_status_has_not_ended(tmp_path):
    with pytest.raises(PlanError, match="status is 'paused', which is none of done, diverged"):
        Status("paused")
    RunStore(tmp_path).run("0" * 16).write("status", {"status": "paused"})
    assert RunStore(tmp_path).run("0" * 16).status is None


def test_only_what_the_method_itself_ended_is_an_answer():
    assert [status for status in Status if status.is_answer] == [Status.DONE, Status.DIVERGED, Status.OVERDRAWN]
