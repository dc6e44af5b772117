"""A killed evaluation goes on where it was, and ends with the same bits."""

from __future__ import annotations

import contextlib
import json
import math
import random
from typing import Any

import pytest
import torch

from harness.commands.compare import prepare
from harness.evaluation import free_answers, lm_eval_model
from harness.models import placement
from harness.plan.load import make_plan
from harness.runs.execute import execute
from harness.setup.specs import run_specs
from harness.store.journal import Journal
from harness.store.runs import RunStore

torch.set_num_threads(1)


def test_answers_keep_their_bits_and_are_computed_once(tmp_path):
    path = tmp_path / "evals" / "final.journal"
    value = [0.1 + 0.2, -math.inf, [3, "text \u2028 {}"], True]
    Journal(path, "weights").once(["part", 1], lambda: value)
    again = Journal(path, "weights")
    assert again.once(["part", 1], lambda: pytest.fail("computed twice")) == value
    assert again.once(["part", 2], lambda: "new") == "new"
    assert Journal(path, "other weights").once(["part", 1], lambda: "other") == "other"


def test_a_line_cut_short_is_forgotten_and_does_not_spoil_the_next(tmp_path):
    path = tmp_path / "journal"
    for part in (1, 2):
        Journal(path).once(part, lambda part=part: part)
    path.write_bytes(path.read_bytes()[:-4])
    cut = Journal(path)
    assert [cut.once(part, lambda part=part: 10 * part) for part in (1, 2)] == [1, 20]
    assert [Journal(path).once(part, lambda: None) for part in (1, 2)] == [1, 20]


def test_without_a_path_nothing_is_kept():
    journal = Journal()
    assert [journal.once("asked", lambda n=n: n) for n in (1, 2)] == [1, 2]


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.fixture(scope="module")
def small_batches():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(placement, "TOKENS", {"cpu": 96})
        patched.setattr(lm_eval_model, "CACHE_PASSES", {"cpu": 2})
        patched.setattr(free_answers, "LIMIT", 4)
        yield


@pytest.fixture(scope="module")
def asked(tiny_path, tmp_path_factory, small_batches):
    """A comparison's evaluation of the base, in many small batches: choices, generated answers, texts, drift."""
    tmp_path = tmp_path_factory.mktemp("asked")
    rng = random.Random(0)
    word = ["".join(rng.choice("abcdefgh") for _ in range(5)) for _ in range(60)]
    domain = [{"instruction": f"Grade {w}", "input": "", "output": rng.choice(["buy", "sell"])} for w in word]
    suite = [{"question": f"Which has {w}?", "choices": [w, w[::-1], "neither"], "answer": "A"} for w in word[:6]]
    (tmp_path / "domain.json").write_text(json.dumps(domain))
    (tmp_path / "suite.jsonl").write_text("\n".join(map(json.dumps, [*suite, {"text": "One day a cat sat."}])))
    places: dict[str, Any] = {
        "data": str(tmp_path / "domain.json"),
        "suites": str(tmp_path / "suite.jsonl"),
        "out": str(tmp_path / "results"),
    }
    plan = make_plan({"model": tiny_path, "recipes": "sft", "budget": "1steps", "max_length": 64, "workers": 1, **places})
    material, evaluation, allowed = prepare(plan)
    return next(spec for spec in run_specs(material, allowed) if spec.role == "base"), material, evaluation


def evaluated(asked, root, kill=("", 0)):
    """(bytes of each stored table, forward passes) of the base's run in a store; `kill`: (a kind of evaluation, parts): it is
    killed in the first pass after its journal holds so many."""
    spec, material, plan = asked
    evaluation = plan.open(material)
    passes = 0

    def count(*_):
        nonlocal passes
        if any(path.read_bytes().count(b"\n") == kill[1] for path in root.glob(f"*/evals/{kill[0]}-*.journal")):
            raise Killed
        passes += 1

    load = evaluation.load

    def loaded():
        model = load()
        model.register_forward_pre_hook(count)
        return model

    evaluation.load = loaded
    with contextlib.suppress(Killed):
        execute(spec, material, RunStore(root), evaluation, lambda _: None)
    return {path.name: path.read_bytes() for path in sorted(root.glob("*/evals/*"))}, passes


@pytest.fixture(scope="module")
def whole(asked, tmp_path_factory):
    return evaluated(asked, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("kill", [("final", 1), ("final", 5), ("quality", 1)])
def test_a_killed_evaluation_goes_on_and_ends_with_the_same_bits(asked, whole, tmp_path, kill):
    tables, passes = whole
    assert all(name.endswith(".parquet") for name in tables)
    cut, done = evaluated(asked, tmp_path / "killed", kill)
    assert any(name.endswith(".journal") for name in cut)
    resumed, rest = evaluated(asked, tmp_path / "killed")
    assert resumed == tables
    trials = 2  # of whether the model keeps the texts of a row apart: every process tries
    assert passes <= done + rest <= passes + trials
