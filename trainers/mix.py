"""Mix general data into every optimizer step, at a fixed ratio."""

from collections.abc import Iterator

import torch

from harness.contract import Example, Method, Run, Step, blend


class Mix(Method):
    """Each step holds (1 - ratio) domain and ratio general examples; cross-entropy on both.

    The general examples go round the whole pool in shuffled passes. The ratio is exact over time: what one step rounds
    away the next makes up for. General tokens are inside the budget, so fewer domain epochs fit.
    """

    paper = (
        "Experience replay by data mixing; ratio 1 % to 25 %: arXiv:2502.06042. "
        "@article{mix2025, title={arXiv:2502.06042}, year={2025}}"
    )
    off = {"ratio": 0.0}
    search = {"ratio": (0.01, 0.5)}

    def __init__(self, ratio: float = 0.15):
        if not 0 <= ratio < 1:
            raise ValueError(f"ratio is a share of each step from 0 to below 1, not {ratio}")
        self.ratio = ratio
        self.needs = frozenset({"general_data"}) if ratio else frozenset()

    def stream(self, steps: Iterator[Step], run: Run) -> Iterator[Step]:
        return blend(steps, run.batch_size, self.ratio, self._passes(run)) if self.ratio else steps

    def _passes(self, run: Run) -> Iterator[Example]:
        """The pool in a new order every pass, for ever."""
        generator = run.generator("mix")
        while True:
            for index in torch.randperm(len(run.general), generator=generator).tolist():
                yield run.general[index]
