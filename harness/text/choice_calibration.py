"""Does a model know what it knows? What one multiple-choice item tells about it.

Option probabilities are softmax(log-likelihoods of the options). ECE and AUROC exist over many items only: the report takes
them from `confidence` and `correct` (harness/report/tables/calibration.py). No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

METRICS: dict[str, bool | None] = {"confidence": None, "correct": True, "brier": False, "nll_choice": False}
"""Metric -> whether higher is better (None: neither)."""


def measure(nats: Sequence[float], gold: int | None) -> dict[str, float]:
    """Return the measures of one item with these log-likelihoods of its K options, `gold` the right one.

    confidence = max p; correct = 1 where that is the right option; brier = sum_k (p_k - [k = gold])^2, 0 to 2 (Brier 1950);
    nll_choice = -ln p_gold. Empty where the right option is not known or a likelihood is not finite.
    """
    values = np.asarray(nats, float)
    if gold is None or not np.isfinite(values).all():
        return {}
    shifted = values - values.max()
    logs = shifted - np.log(np.exp(shifted).sum())
    p = np.exp(logs)
    brier = float(((p - np.eye(len(p))[gold]) ** 2).sum())
    return {
        "confidence": float(p.max()),
        "correct": float(p.argmax() == gold),
        "brier": brier,
        "nll_choice": -float(logs[gold]),
    }
