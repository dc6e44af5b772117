"""Calibration of one choice item: by hand, and against a reference."""

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from harness.text.choice_calibration import METRICS, measure


def test_by_hand():
    found = measure([math.log(0.2), math.log(0.6), math.log(0.2)], 1)
    assert found == pytest.approx({"confidence": 0.6, "correct": 1, "brier": 0.04 + 0.16 + 0.04, "nll_choice": -math.log(0.6)})
    assert set(found) == set(METRICS)


def test_only_differences_between_options_count():
    assert measure([-1000.0, -1001.0], 1) == pytest.approx(measure([0.0, -1.0], 1))
    assert measure([-1.0, -1.0, -1.0, -1.0], 2)["confidence"] == pytest.approx(0.25)


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    nats, gold = rng.normal(size=(40, 4)), rng.integers(0, 4, 40)
    found = [measure(one, int(right)) for one, right in zip(nats, gold, strict=True)]
    p = np.exp(nats) / np.exp(nats).sum(1, keepdims=True)
    assert np.mean([one["nll_choice"] for one in found]) == pytest.approx(log_loss(gold, p))
    wanted = brier_score_loss(gold, p, labels=[0, 1, 2, 3], scale_by_half=False)
    assert np.mean([one["brier"] for one in found]) == pytest.approx(wanted)
    assert [one["correct"] for one in found] == (p.argmax(1) == gold).tolist()


def test_what_is_not_known_is_absent():
    assert measure([0.0, 1.0], None) == {}
    assert measure([0.0, -math.inf], 0) == {}
