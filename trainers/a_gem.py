"""A-GEM: a step's gradient never points against the gradient of general data."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from harness.contract import Batch, Example, Method, Run, Step, Weights
from harness.toolbox import passes


class AGem(Method):
    """g <- g - (g . g_ref / g_ref . g_ref) g_ref where g . g_ref < 0; g_ref is of `ratio` x batch size general examples.

    Both gradients are taken at the present weights, over all that trains (with adapters: their factors), g_ref first, in a pass
    of its own that updates nothing: charged, and counted as a step where the budget is in steps. Masks and penalties of other
    methods act in both passes. `ratio=0` is plain fine-tuning.
    """

    paper = (
        "Chaudhry et al. 2019, arXiv:1812.00420, eq. 11. "
        "@inproceedings{chaudhry2019agem, title={Efficient Lifelong Learning with A-GEM}, author={Chaudhry, Arslan and "
        "Ranzato, Marc'Aurelio and Rohrbach, Marcus and Elhoseiny, Mohamed}, booktitle={ICLR}, year={2019}}"
    )
    verified = "projection by hand on two tensors; the reference pass moves nothing and is charged"
    off = {"ratio": 0.0}
    search = {"ratio": (0.125, 1.0)}
    bounds = {"ratio": "[0, inf)"}
    needs = frozenset({"general_data"})
    holds = 1.0  # the reference gradient
    unsharded = "the reference pass makes no optimizer step, which DeepSpeed's engine demands after every backward pass"

    def __init__(self, ratio: float = 1.0):
        self.ratio = ratio
        self.reference_: Weights = {}
        """The general gradient, by trained parameter, until the domain's is taken."""
        self.passing_ = False
        """Whether the pass under way is the reference's."""

    def stream(self, steps: Iterator[Step], run: Run) -> Iterator[Step]:
        if not self.ratio:
            return steps
        return self._with_references(steps, run)

    def _with_references(self, steps: Iterator[Step], run: Run) -> Iterator[Step]:
        anchors = [replace(example, source="anchor") for example in run.general]
        pool = passes(anchors, run.generator("a_gem"))
        count = max(1, round(self.ratio * run.batch_size))
        for step in steps:
            yield [*islice(pool, count), *step]

    def split(self, step: Step, run: Run) -> list[Step]:
        references = [example for example in step if example.source == "anchor"]
        others = [example for example in step if example.source != "anchor"]
        return [part for part in (references, others) if part]

    def share(self, batch: Batch) -> float:
        self.passing_ = all(_is_anchor(example) for example in batch.examples)
        return 1.0

    def gradient(self, weights: Weights, gradients: Weights, run: Run) -> None:
        if self.passing_:
            self.reference_ = {name: gradient.clone() for name, gradient in gradients.items()}
            return
        shared = [name for name in gradients if name in self.reference_]
        product = sum(float((gradients[name] * self.reference_[name]).sum()) for name in shared)
        if product < 0:
            square = sum(float(self.reference_[name].square().sum()) for name in shared)
            for name in shared:
                gradients[name].sub_(self.reference_[name], alpha=product / square)
        self.reference_ = {}

    def update(self, step: Callable[[], None], weights: Weights, run: Run) -> None:
        if not self.passing_:
            step()

    def state(self) -> dict[str, Tensor]:
        passing = {"passing": torch.tensor(self.passing_)}
        return passing | {f"reference/{name}": gradient for name, gradient in self.reference_.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.passing_ = bool(state["passing"])
        self.reference_ = {name.removeprefix("reference/"): g for name, g in state.items() if name.startswith("reference/")}


def _is_anchor(example: Example) -> bool:
    return example.source == "anchor"
