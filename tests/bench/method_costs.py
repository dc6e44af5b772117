"""What each method costs against plain fine-tuning: `python -m tests.bench.method_costs` writes method_costs.json.

FLOPs: from the ledger of six steps on the embedded base, over the domain's tokens; what is prepared once is apart, in steps
of plain fine-tuning. Memory: predicted for Qwen2.5-7B's shape in bf16, eight sequences of 1,024 tokens, on one device.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.bundled import embedded
from harness.contract import Need, overrides
from harness.decoding.open_model import open_base
from harness.estimates.memory import Sizer, Way
from harness.recipes.catalogue import catalogue
from harness.recipes.methods_page import COSTS
from harness.recipes.recipe import parse_recipe
from harness.recipes.recipe_text import bundled_methods
from harness.runs.laws import Workshop
from tests.estimates.test_sizing import SHAPES, shape_of

STEPS = 6
REPEATED = ("train", "teacher", "generation", "update")
"""Accounts that grow with every step."""


def flops(name: str, workshop: Workshop) -> tuple[float, float]:
    """Return (FLOPs a domain token in steps, FLOPs prepared once)."""
    run = workshop.run(name, allowed=STEPS)
    workshop.trained(run)
    by_step = sum(account.flops for key, account in run.ledger.accounts.items() if key in REPEATED and not once(key, run))
    prepared = sum(account.flops for account in run.ledger.accounts.values()) - by_step
    return by_step / run.ledger.classes["domain"], prepared


def once(account: str, run) -> bool:
    """Whether what this account holds was prepared before the first step: texts that the base says."""
    return account == "generation" and not any(hasattr(method, "sizes_") for method in run.methods)


def memory(name: str, path: str) -> float:
    """Return predicted bytes."""
    return Sizer(path, parse_recipe(name), "bfloat16", 1024, "cuda").size(Way(8192)).bytes


def changes_memory(name: str) -> bool:
    """Whether a recipe needs other memory than plain fine-tuning, as the estimate sees it."""
    recipe = parse_recipe(name)
    if Need.BASE_LOGITS in recipe.needs:
        return True
    return any(method.holds or overrides(method, "trainable") or overrides(method, "pull") for method in recipe.methods)


def measured(names: Iterable[str]) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each method's costs over those of plain fine-tuning."""
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(open_base(embedded().model), Path(folder), domain=40, general=30)
        kind, *sizes, tied = SHAPES["Qwen/Qwen2.5-7B-Instruct"]
        shape = shape_of(Path(folder), kind, tuple(sizes), tied)
        plain = workshop.run("")
        step, _ = plain.step_price(next(plain.steps()))
        per_token, _ = flops("sft", workshop)
        bytes_ = memory("sft", shape)
        for name in names:
            by_step, prepared = flops(name, workshop)
            ratio = memory(name, shape) / bytes_ if changes_memory(name) else 1.0
            yield (
                name,
                {
                    "flops": round(by_step / per_token, 3),
                    "prepared": round(prepared / step, 1),
                    "memory": round(ratio, 3),
                },
            )


def update(names: Sequence[str]) -> None:
    """Measure these methods, by default all, and write each into the file as soon as it is known."""
    known = json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.exists() else {}
    for name, costs in measured(names or [entry.name for entry in catalogue() if entry.name in bundled_methods()]):
        print(name, costs, flush=True)
        known[name] = costs
        COSTS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    update(sys.argv[1:])
