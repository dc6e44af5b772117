"""Online EWC: one decayed running Fisher and one anchor, both brought up to date when a stage begins."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.contract import Example, Method, Run, Weights
from harness.toolbox import diagonal_fisher


class EwcOnline(Method):
    """L + (strength / 2) sum_i F~_i (theta_i - theta*_i)^2 on effective weights.

    First stage: F~ is the Fisher of the base on `samples` general sequences and theta* the base, exactly as in EWC, whose draws
    it shares. When a later one begins, F~ <- gamma F~ + F and theta* <- the weights then, F being their Fisher on `samples`
    training sequences of the stage before. With one stage it is EWC, bit for bit. Every F is scaled to mean 1 and charged.
    """

    paper = (
        "Schwarz et al. 2018, arXiv:1805.06370, section 3 (online EWC). "
        "@inproceedings{schwarz2018progress, title={Progress and Compress: A scalable framework for continual learning}, "
        "author={Schwarz, Jonathan and others}, booktitle={ICML}, year={2018}}"
    )
    verified = "one stage is EWC bit for bit; decay and anchor by hand over stages"
    off = {"strength": 0.0}
    search = {"strength": (0.01, 10.0)}
    bounds = {"strength": "[0, inf)", "gamma": "[0, 1]", "samples": "[1, inf)"}
    needs = frozenset({"general_data"})

    def __init__(self, strength: float = 1.0, gamma: float = 0.95, samples: int = 256):
        self.strength, self.gamma, self.samples = strength, gamma, samples
        self.fisher_: Weights = {}
        self.anchor_: Weights = {}
        """The weights at the end of the last stage; empty before: the base."""

    def prepare(self, model: nn.Module, run: Run) -> None:
        self.fisher_ = self._measured(model, run, run.general)

    def stage_begin(self, model: nn.Module, run: Run) -> None:
        fresh = self._measured(model, run, run.domain_of(run.stage - 1))
        self.fisher_ = {name: self.gamma * past + fresh[name] for name, past in self.fisher_.items()}
        self.anchor_ = {name: p.detach().float().clone() for name, p in model.named_parameters()}

    def _measured(self, model: nn.Module, run: Run, examples: Sequence[Example]) -> Weights:
        chosen = torch.randperm(len(examples), generator=run.generator("ewc"))[: self.samples].tolist()
        with run.rng("ewc"):
            return diagonal_fisher(model, run, [examples[i] for i in chosen])

    def pull(self, name: str, theta: Tensor, start: Tensor) -> Tensor:
        return self.strength * self.fisher_[name] * (theta - self.anchor_.get(name, start))

    def state(self) -> Weights:
        parts = {"fisher": self.fisher_, "anchor": self.anchor_}
        tensors = {}
        for part, weights in parts.items():
            for name, tensor in weights.items():
                tensors[f"{part}/{name}"] = tensor
        return tensors

    def restore(self, state: Weights) -> None:
        for name, tensor in state.items():
            part, name = name.split("/")
            (self.fisher_ if part == "fisher" else self.anchor_)[name] = tensor
