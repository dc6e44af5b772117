"""Stay close to the base's next-token distribution, on the domain's inputs or on general ones."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.contract import Batch, Method, Run, Step
from harness.toolbox import blend, passes


class Kl(Method):
    """L = mean over supervised tokens of CE + beta KL(p0 || p), p0 the base.

    `on=domain`: KL on the domain's own tokens. `on=general`: a `ratio` of each step's examples are general ones, whose tokens
    have beta KL in place of CE (so beta times ratio is what counts; published values of beta are about 1 here, 0.05 to 0.1 on
    the domain). They are trained on, hence charged, and so is the base's forward on them.
    """

    paper = (
        "Penalty to the base as in Ziegler et al. 2019, arXiv:1909.08593, with the forward KL of Li and Hoiem 2016, "
        "arXiv:1606.09282; beta 0.05 to 0.1: ASFT and LLaMA-Factory. "
        "@article{ziegler2019preferences, title={Fine-Tuning Language Models from Human Preferences}, author={Ziegler, "
        "Daniel M. and others}, journal={arXiv:1909.08593}, year={2019}}"
    )
    verified = (
        "its definition and its gradient; exactly 0 at the base; a huge beta keeps the base; anchors get no cross-entropy"
    )
    off = {"beta": 0.0}
    search = {"beta": (0.01, 1.0)}
    bounds = {"beta": "[0, inf)", "on": ("domain", "general"), "ratio": "(0, 1)"}

    def __init__(self, beta: float = 0.1, on: str = "domain", ratio: float = 0.15):
        self.beta, self.on, self.ratio = beta, on, ratio
        self.base_source = "domain" if on == "domain" else "anchor"
        self.needs = frozenset({"base_logits"} if on == "domain" else {"base_logits", "general_data"})

    def stream(self, steps: Iterator[Step], run: Run) -> Iterator[Step]:
        if self.on == "domain":
            return steps
        anchors = [replace(example, source="anchor") for example in run.general]
        return blend(steps, run.batch_size, repeat(self.ratio), passes(anchors, run.generator("kl")))

    def share(self, batch: Batch) -> Tensor | float:
        return 1.0 if self.on == "domain" else (~batch.from_source("anchor")).float()

    def penalty(self, logits: Tensor, batch: Batch, run: Run) -> Tensor:
        penalty, ours = torch.zeros_like(logits[:, 0]), batch.from_source(self.base_source)
        if not ours.any():
            return penalty
        base = F.log_softmax(run.base_logits(batch, self.base_source), dim=-1)
        tuned = F.log_softmax(logits[ours], dim=-1)
        divergence = F.kl_div(tuned, base, reduction="none", log_target=True).sum(-1)
        return penalty.masked_scatter(ours, self.beta * divergence)
