"""The budget as written: an amount in one unit. No torch here; the ledger that spends it is in harness/budget.py."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from harness.errors import PlanError

METERS = ("flops", "seconds", "tokens", "steps")
UNITS = {"epochs": None, "epoch": None, "s": "seconds", "flops": "flops", "tokens": "tokens", "steps": "steps"}
MOST_EPOCHS = 10_000
"""Epochs are priced step by step, so their number has an end."""
SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}


@dataclass(frozen=True)
class Budget:
    """What the user allowed: an amount in one unit; `epochs` is priced as that many epochs of plain fine-tuning."""

    text: str
    amount: float
    unit: str
    """`epochs` or one of `METERS`."""


def parse_budget(text: str) -> Budget:
    """`3epochs`, `600s`, `2e15flops`, `1Mtokens` or `500steps`."""
    match = re.fullmatch(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([kMGTP]?)([a-z]+)", text.strip())
    if not match or match[3] not in UNITS:
        raise PlanError(f"budget '{text}' is not understood: write 3epochs, 600s, 2e15flops, 1Mtokens or 500steps")
    try:
        amount = float(match[1]) * SCALES[match[2]]
    except ValueError:
        raise PlanError(f"budget '{text}': '{match[1]}' is not a number") from None
    if not math.isfinite(amount):
        raise PlanError(f"budget '{text}' is more than any number: training would never end; give a finite one")
    if UNITS[match[3]] is None and amount > MOST_EPOCHS:
        raise PlanError(f"budget '{text}' is over {MOST_EPOCHS:,} epochs, which no training needs; give fewer")
    return Budget(text, amount, UNITS[match[3]] or "epochs")
