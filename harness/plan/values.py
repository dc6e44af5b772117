"""Values of options as text: budgets, meters, devices, limits."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from harness.errors import PlanError
from harness.spelling import did_you_mean

BYTES = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
"""What a unit of memory counts in bytes; other limits have no unit."""


TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}
"""What `report_to` may name -> the package that it needs, as it is imported."""


def parse_trackers(text: str) -> list[str]:
    """Return the trackers that `wandb+tensorboard` names, none for `none`. Raises PlanError with the nearest name."""
    names = [name.strip() for name in text.split("+")]
    if names == ["none"]:
        return []
    faults = []
    for name in names:
        if name not in TRACKERS:
            hint = did_you_mean(name, TRACKERS, f"it takes {', '.join(TRACKERS)}, joined by +, or none")
            faults.append(f"report_to has no tracker '{name}'; {hint}")
    if faults:
        raise PlanError(*faults)
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Limits:
    """What a recommended recipe must keep; None: no limit."""

    loss: float | None = None
    """Points of the chance-corrected general score that may be lost; the worse end of the 95 % interval counts."""
    retention: float | None = None
    """Per cent of the base's general ability that must surely be kept: the lower end of the interval counts."""
    seconds: float | None = None
    """Device-seconds of one training, at most."""
    memory: float | None = None
    """Peak bytes of one training, at most."""
    family: float | None = None
    """Points that the general family which lost most may have lost; the worse end of its interval counts."""


STANDARD = Limits(loss=5)
"""Where the plan sets none. Five points is a guess at what most users would bear; `require` sets another."""


def parse_limits(text: str) -> Limits:
    """Return the limits that `loss=5 seconds=600 memory=16GB` sets, any of them. Raises ValueError with a sentence."""
    amounts: dict[str, float] = {}
    for part in text.split():
        name, _, value = part.partition("=")

        # Only memory has units.
        pattern = r"(\d+(?:\.\d+)?)([kmgt]?b)?" if name == "memory" else r"(\d+(?:\.\d+)?)()"
        match = re.fullmatch(pattern, value.lower())
        if name not in Limits.__dataclass_fields__ or name in amounts or match is None:
            raise ValueError(
                "require takes loss=POINTS, retention=PERCENT, family=POINTS, seconds=S and memory=SIZE, each once at most,"
                f" as in 'loss=5 seconds=600 memory=16GB'; '{part}' is none"
            )
        amounts[name] = float(match[1]) * BYTES[match[2] or ""]
        if not math.isfinite(amounts[name]):
            raise ValueError(f"require: '{part[:40]}...' is no finite number; give one")
    return Limits(**amounts)


METERS = ("flops", "seconds", "tokens", "steps")
METER_OF_UNIT = {"epochs": None, "epoch": None, "s": "seconds", "flops": "flops", "tokens": "tokens", "steps": "steps"}
"""The meter that a budget in this unit binds; None: priced in epochs of plain fine-tuning."""
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
    """Return the budget that `3epochs`, `600s`, `2e15flops`, `1Mtokens` or `500steps` names. Raises PlanError."""
    match = re.fullmatch(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([kMGTP]?)([a-z]+)", text.strip())
    if not match or match[3] not in METER_OF_UNIT:
        raise PlanError(f"budget '{text}' is not understood: write 3epochs, 600s, 2e15flops, 1Mtokens or 500steps")
    try:
        amount = float(match[1]) * SCALES[match[2]]
    except ValueError:
        raise PlanError(f"budget '{text}': '{match[1]}' is not a number") from None
    if not math.isfinite(amount):
        raise PlanError(f"budget '{text}' is more than any number: training would never end; give a finite one")

    # Epochs are priced by walking through their steps, which must end.
    meter = METER_OF_UNIT[match[3]]
    if meter is None and amount > MOST_EPOCHS:
        raise PlanError(f"budget '{text}' is over {MOST_EPOCHS:,} epochs, which no training needs; give fewer")
    return Budget(text, amount, meter or "epochs")


def devices_of(text: str) -> list[int]:
    """Return the numbers of the GPUs in "0,1,2,3". Raises PlanError."""
    parts = [part.strip() for part in text.split(",")]
    repeated = len(set(parts)) < len(parts)
    if repeated or not all(part.isdigit() for part in parts):
        raise PlanError(f"devices are different numbers of GPUs joined by commas, as 0,1,2,3, not '{text}'")
    return [int(part) for part in parts]
