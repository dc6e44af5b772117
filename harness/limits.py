"""What a user can afford and wants kept: limits under which the report chooses a recipe."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}


@dataclass(frozen=True)
class Limits:
    """None: no limit."""

    loss: float | None = None
    """Points of the chance-corrected general score that may be lost; the worse end of the 95 % interval counts."""
    retention: float | None = None
    """Per cent of the base's general ability that must surely be kept: the lower end of the interval counts."""
    seconds: float | None = None
    """Device-seconds of one training, at most."""
    memory: float | None = None
    """Peak bytes of one training, at most."""


STANDARD = Limits(loss=5)
"""Where the plan sets none. Five points is a guess at what most users would bear; `require` sets another."""


def parse_limits(text: str) -> Limits:
    """`loss=5 seconds=600 memory=16GB`, any of them. Raises ValueError with a sentence."""
    found: dict[str, float] = {}
    for part in text.split():
        name, _, value = part.partition("=")
        pattern = r"(\d+(?:\.\d+)?)([kmgt]?b)?" if name == "memory" else r"(\d+(?:\.\d+)?)()"
        read = re.fullmatch(pattern, value.lower())
        if name not in Limits.__dataclass_fields__ or name in found or read is None:
            raise ValueError("require takes loss=POINTS, retention=PERCENT, seconds=S and memory=SIZE, each once at most, as in"
                             f" 'loss=5 seconds=600 memory=16GB'; '{part}' is none")  # fmt: skip
        found[name] = float(read[1]) * UNITS[read[2] or ""]
        if not math.isfinite(found[name]):
            raise ValueError(f"require: '{part[:40]}...' is no finite number; give one")
    return Limits(**found)
