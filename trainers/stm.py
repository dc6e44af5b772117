"""Selective token masking: targets that surprise the base are not trained on."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor, nn

from harness.contract import Example, Method, Run


class Stm(Method):
    """A target y_t is trained only where the base's perplexity exp(l_t(theta0)) is at most `threshold`; 0 is plain fine-tuning.

    The base reads the domain once before the first step, charged as `reading`. Records of which no target is left are dropped;
    where none of any record is, the domain stays whole, and the report says so. Known pitfall: what the domain has to teach and
    the base does not know (facts, formats) is what surprises it. A later stage is read by what is trained so far.
    """

    paper = (
        "Wu et al. 2025, arXiv:2501.14315. "
        "@article{wu2025stm, title={Mitigating Forgetting in LLM Fine-Tuning via Low-Perplexity Token Learning}, author={Wu, "
        "Chao-Chung and Tam, Zhi Rui and Lin, Chieh-Yen and Chen, Yun-Nung and Sun, Shao-Hua and Lee, Hung-yi}, "
        "journal={arXiv:2501.14315}, year={2025}}"
    )
    verified = "masks by hand from the base's own losses; one forward over the domain charged"
    off = {"threshold": 0.0}
    search = {"threshold": (1.5, 20.0)}
    bounds = {"threshold": "[0, inf)"}

    def __init__(self, threshold: float = 2.5):
        self.threshold = threshold
        self.kept_ = torch.zeros(0, dtype=torch.bool)
        """Whether each target of the stage is trained, in the order of its examples."""
        self.share_ = 1.0

    def prepare(self, model: nn.Module, run: Run) -> None:
        if self.threshold:
            marks = self._marked(model, run, run.domain)
            self.kept_ = torch.tensor(list(chain.from_iterable(marks)), dtype=torch.bool)

    def stage_begin(self, model: nn.Module, run: Run) -> None:
        self.prepare(model, run)

    def _marked(self, model: nn.Module, run: Run, examples: Sequence[Example]) -> list[list[bool]]:
        """For each example, whether each of its targets is trained."""
        limit = math.log(self.threshold)
        marks: dict[Example, list[bool]] = {}
        for batch in run.batches(examples):
            with torch.no_grad(), run.charged("reading", model, batch, backward=False):
                losses, _ = run.nll(model, batch)
            rows = batch.rows
            for row, example in enumerate(batch.examples):
                marks[example] = (losses[rows == row] <= limit).tolist()
        return [marks[example] for example in examples]

    def records(self, examples: list[Example], run: Run) -> list[Example]:
        if not len(self.kept_):
            return examples
        flags = iter(self.kept_.tolist())
        masked = {example: _masked(example, flags) for example in run.domain}
        left = [masked.get(example, example) for example in examples]
        left = [example for example in left if any(example.supervised[1:])]
        self.share_ = float(self.kept_.float().mean())
        return left or examples

    def notes(self) -> list[str]:
        if len(self.kept_) and not self.kept_.any():
            return [f"No target's perplexity at the base is at most {self.threshold:g}: nothing was masked."]
        return [
            f"{self.share_:.0%} of the targets have a perplexity of at most {self.threshold:g} at the base, and are trained."
        ]

    def state(self) -> dict[str, Tensor]:
        return {"kept": self.kept_} if len(self.kept_) else {}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.kept_ = state["kept"].cpu() if state else self.kept_


def _masked(example: Example, flags: Iterator[bool]) -> Example:
    """Return the example with those of its targets supervised whose next flag is True."""
    supervised = [target and place > 0 and next(flags) for place, target in enumerate(example.supervised)]
    return replace(example, supervised=tuple(supervised))
