"""Settings without a comparison, for what reads only a few of them."""

from __future__ import annotations

from typing import Any

from harness.plan.settings import Settings


def settings(**options: Any) -> Settings:
    """Return settings with these options, and any value for what a plan would leave open."""
    decided: dict[str, Any] = {
        "max_length": 64,
        "model": "model",
        "budget": "1epochs",
        "meter": "steps",
        "seeds": 1,
        "learning_rate": 1e-3,
        "micro_tokens": 1024,
        "precision": "float32",
        "kernels": "plain",
        "gradient_checkpointing": False,
        "suites": "",
        "scoring": "float32",
        "device": "cpu",
        "name": "comparison",
    }
    return Settings(**(decided | options))
