"""Verifiable instructions (IFEval, Zhou et al. 2023, arXiv:2311.07911), checked by lm-eval's own checkers.

They need the package langdetect and, for sentences and capital words, nltk's `punkt_tab`. An item whose checker cannot run
here is left out and said so: a number that is wrong is worse than one that is missing.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from harness.errors import PlanError

PRIMARY = "prompt_level_strict_acc"
METRICS = (PRIMARY, "prompt_level_loose_acc", "instructions_strict", "instructions_loose")
PUNKT = "python -m nltk.downloader punkt_tab"


@lru_cache(maxsize=1)
def _checkers() -> Any:
    """lm-eval's module; importing it may look for nltk's data in the network."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            from lm_eval.tasks.ifeval import utils
    except ImportError as error:
        raise PlanError(f"IFEval's checkers need the package {error.name}: pip install 'lm-eval[ifeval]'") from None
    steady()
    return utils


def steady() -> None:
    """Langdetect draws at random; with a seed the same text has the same language in every run."""
    import sys

    if module := sys.modules.get("langdetect"):
        module.DetectorFactory.seed = 0


def known() -> frozenset[str]:
    """The instructions that have a checker."""
    return frozenset(_checkers().instructions_registry.INSTRUCTION_DICT)


def scores(doc: Mapping[str, Any], output: str) -> dict[str, float]:
    """Whether all instructions are followed, and the share that is; `loose` forgives first and last lines and asterisks."""
    asked = {"key": 0, "prompt": doc["prompt"], "instruction_id_list": doc["instructions"], "kwargs": doc["settings"]}
    found = _checkers().process_results(asked, [output])
    shares = {kind: found[f"inst_level_{kind}_acc"] for kind in ("strict", "loose")}
    whole = {f"prompt_level_{kind}_acc": float(found[f"prompt_level_{kind}_acc"]) for kind in shares}
    return whole | {f"instructions_{kind}": sum(share) / len(share) for kind, share in shares.items()}


def ifeval_item(doc: Mapping[str, Any]) -> dict[str, Any]:
    """An item as lm-eval's task has it, as it is called here."""
    return {
        "prompt": doc["prompt"],
        "instructions": doc["instruction_id_list"],
        "settings": [one or {} for one in doc["kwargs"]],
    }


def unrunnable(doc: Mapping[str, Any]) -> str:
    """Why an item cannot be scored here; "" where it can. Raises ValueError for settings its checkers do not take."""
    try:
        scores(doc, "One sentence HERE. Another one.\n\nAnd a third: it is the last.")
    except LookupError as error:
        if isinstance(error, (KeyError, IndexError)):
            raise ValueError(f"{type(error).__name__}: {error}") from None
        return f"nltk's data is missing here ({PUNKT})"
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
    return ""
