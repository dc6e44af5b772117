"""Mix general data into every optimizer step, at a fixed ratio or one that moves over the budget."""

import re
from collections.abc import Iterator
from itertools import count

import torch
from torch import Tensor, nn

from harness.contract import Method, Run, Step
from harness.toolbox import blend, passes


class Mix(Method):
    """Each step holds (1 - ratio) domain and ratio general examples; cross-entropy on both.

    `ratio=0.25` is 3:1, `ratio=0.5` is 1:1. `schedule="15->30"` moves it linearly from 15 % to 30 % over the spent fraction of
    the budget, whatever `ratio` says; its fixed control is the average, `mix(ratio=0.225)`: without it a comparison confounds
    the schedule with the amount. The general examples go round the whole pool in shuffled passes. The ratio counts examples
    and is exact over time, not in expectation: what one step rounds away the next makes up for. General tokens are inside
    the budget, so fewer domain epochs fit.
    """

    paper = (
        "Experience replay by data mixing; ratio 1 % to 25 %: Bethune et al. 2025, arXiv:2502.06042. "
        "@article{bethune2025scaling, title={Scaling Laws for Forgetting during Finetuning with Pretraining Data Injection}, "
        "author={Bethune, Louis and others}, journal={arXiv:2502.06042}, year={2025}}"
    )
    verified = "ratio exact over 1,000 steps, its schedule over the budget; domain order kept"
    off = {"ratio": 0.0, "schedule": ""}
    search = {"ratio": (0.01, 0.5)}
    bounds = {"ratio": "[0, 1)"}
    needs = frozenset({"general_data"})

    def __init__(self, ratio: float = 0.15, schedule: str = ""):
        self.first, self.last = _ends(schedule) if schedule else (ratio, ratio)
        if not (0 <= self.first < 1 and 0 <= self.last < 1):
            raise ValueError(f"ratio is a share of each step from 0 to below 1, not {schedule}")
        self.spent_: list[float] = []
        """The spent fraction each step was drawn at: a resumed run draws its past steps as they were."""

    def stream(self, steps: Iterator[Step], run: Run) -> Iterator[Step]:
        return blend(steps, run.batch_size, self._ratios(run), passes(run.general, run.generator("mix")))

    def _ratios(self, run: Run) -> Iterator[float]:
        """Each step's ratio, by the budget spent before it."""
        for step in count():
            if step == len(self.spent_):
                self.spent_.append(min(run.budget_spent, 1.0))
            yield self.first + (self.last - self.first) * self.spent_[step]

    def stage_begin(self, model: nn.Module, run: Run) -> None:
        self.spent_ = []  # its steps are counted anew

    def state(self) -> dict[str, Tensor]:
        return {"spent": torch.tensor(self.spent_, dtype=torch.float64)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.spent_ = state["spent"].tolist()


def _ends(schedule: str) -> tuple[float, float]:
    """The first and last ratio of "15->30"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*->\s*(\d+(?:\.\d+)?)\s*", schedule)
    if not match:
        raise ValueError(f"schedule is written in percent as 15->30, not '{schedule}'")
    return float(match[1]) / 100, float(match[2]) / 100
