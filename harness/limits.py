"""What a user can afford and wants kept: limits on memory, time and retention, under which the report recommends a recipe."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}


@dataclass(frozen=True)
class Limits:
    """None: no limit."""

    retention: float | None = None
    """Per cent of the base's general ability that must surely be kept: the lower end of the interval counts."""
    seconds: float | None = None
    """Device-seconds of one training, at most."""
    memory: float | None = None
    """Peak bytes of one training, at most."""


STANDARD = Limits(retention=95)
"""Where nobody has said anything: a start for the page's inputs, no recommendation of ours."""


def parse_limits(text: str) -> Limits:
    """`retention=95 seconds=600 memory=16GB`, any of them. Raises ValueError with a sentence."""
    found: dict[str, float] = {}
    for part in text.split():
        name, _, value = part.partition("=")
        pattern = r"(\d+(?:\.\d+)?)([kmgt]?b)?" if name == "memory" else r"(\d+(?:\.\d+)?)()"
        read = re.fullmatch(pattern, value.lower())
        if name not in Limits.__dataclass_fields__ or name in found or read is None:
            raise ValueError("require takes retention=PERCENT, seconds=S and memory=SIZE, each once at most, as in"
                             f" 'retention=95 seconds=600 memory=16GB'; '{part}' is none")  # fmt: skip
        found[name] = float(read[1]) * UNITS[read[2] or ""]
        if not math.isfinite(found[name]):
            raise ValueError(f"require: '{part[:40]}...' is no finite number; give one")
    return Limits(**found)
