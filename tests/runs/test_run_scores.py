"""What a run's evaluations keep of an earlier try: answers of the same weights, and looks at what was trained before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from harness.contract import Weights
from harness.runs.run_scores import Scoring
from harness.store.runs import RunFolder
from harness.store.schema import ITEM_COLUMNS
from harness.vocabulary import EvalKind

KEY = "0" * 16


class Evaluation:
    """Scores a model by the one number that its weights hold, and remembers that in the journal as answers are."""

    keys = dict.fromkeys(EvalKind, KEY)
    device = "cpu"
    ends = False
    """Whether the process is killed before the scores are stored."""

    def __init__(self, wrapped: Any):
        self.wrapped = wrapped

    def score(self, kind: EvalKind, model: Any, journal: Any, fraction: float = 1.0, alpha: float = 1.0) -> pd.DataFrame:
        score = journal.once("an item", lambda: float(self.wrapped.weights["w"]))
        if self.ends:
            raise KeyboardInterrupt
        values = {"score": score, "fraction": fraction, "alpha": alpha}
        empty = {"string": "x", "float64": 0.0, "boolean": True}
        row = {name: values.get(name, empty[kind]) for name, kind in ITEM_COLUMNS.items()}
        return pd.DataFrame([row])

    def release_base(self) -> None:
        """Nothing is held here."""


@pytest.fixture
def scoring(tmp_path) -> Scoring:
    wrapped = SimpleNamespace(model=torch.nn.Identity(), weights={})
    wrapped.set = lambda weights: setattr(wrapped, "weights", weights)
    scoring = object.__new__(Scoring)
    scoring.folder, scoring.evaluation, scoring.seconds = RunFolder(tmp_path / KEY), Evaluation(wrapped), 0.0  # type: ignore
    scoring.__dict__["wrapped"] = wrapped
    return scoring


def weights(value: float) -> Weights:
    return {"w": torch.tensor(value)}


def test_answers_of_other_weights_are_not_taken_from_the_journal(scoring):
    scoring.evaluation.ends = True
    with pytest.raises(KeyboardInterrupt):
        scoring.look(0.5, weights(1.0))
    scoring.evaluation.ends = False
    assert scoring.folder.journal_path(EvalKind.CURVE, KEY).exists()
    assert scoring.look(0.5, weights(2.0))["score"].tolist() == [2.0]


def test_a_look_after_a_resume_replaces_what_the_lost_training_had_scored(scoring):
    for fraction, value in ((1 / 3, 1.0), (1 / 2, 2.0), (2 / 3, 3.0), (1 / 2, 4.0)):
        scoring.look(fraction, weights(value))
    curve = scoring.folder.scores(EvalKind.CURVE, KEY)
    assert curve[["fraction", "score"]].to_numpy().tolist() == [[1 / 3, 1.0], [1 / 2, 4.0]]
