"""FLOW: records that the base already finds easy count more, so that training moves it less."""

import hashlib

import torch
from torch import Tensor, nn

from harness.contract import Batch, Method, Run


class Flow(Method):
    """L = sum_i w_i sum_t l_it / n, w_i = exp(-l_i(theta0) / tau), l_i a record's mean token loss at the base, n all targets.

    tau is the median of l_i(theta0). The base reads the domain once, charged as `reading`; in a later stage what is trained so
    far reads that stage's. Not divided by the sum of weights, so the effective rate is lower too. General examples weigh 1.
    `strength` blends towards weight 1: 0 is plain fine-tuning. Known pitfall: new facts are what weighs least.
    """

    paper = (
        "Sanyal et al. 2025, arXiv:2502.02797. "
        "@inproceedings{sanyal2025flow, title={Upweighting Easy Samples in Fine-Tuning Mitigates Forgetting}, author={Sanyal, "
        "Sunny and others}, booktitle={ICML}, year={2025}}"
    )
    verified = "weights by hand from the base's own losses; one forward over the domain charged"
    off = {"strength": 0.0}
    search = {"strength": (0.25, 1.0)}
    bounds = {"strength": "[0, 1]"}
    renorm = False

    def __init__(self, strength: float = 1.0):
        self.strength = strength
        self.weights_: dict[int, float] = {}
        """Number of a record -> its weight."""

    def prepare(self, model: nn.Module, run: Run) -> None:
        losses = run.difficulty(model, run.domain, "loss")
        weights = torch.exp(-losses / losses.median().clamp(min=1e-6))
        by_record: dict[int, list[float]] = {}
        for example, weight in zip(run.domain, weights.tolist(), strict=True):
            by_record.setdefault(_number(example.id), []).append(weight)
        self.weights_ = {number: sum(parts) / len(parts) for number, parts in by_record.items()}

    def stage_begin(self, model: nn.Module, run: Run) -> None:
        self.prepare(model, run)

    def token_weights(self, nll: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        weights = [self.weights_.get(_number(example.id), 1.0) for example in batch.examples]
        by_token = torch.tensor(weights, device=nll.device)[batch.rows]
        return (1.0 - self.strength) + self.strength * by_token

    def state(self) -> dict[str, Tensor]:
        if not self.weights_:
            return {}
        weights = torch.tensor(list(self.weights_.values()), dtype=torch.float64)
        return {"records": torch.tensor(list(self.weights_)), "weights": weights}

    def restore(self, state: dict[str, Tensor]) -> None:
        if state:
            self.weights_ = dict(zip(state["records"].tolist(), state["weights"].tolist(), strict=True))


def _number(record: str) -> int:
    """Return a record's name as a number of 63 bits, for a tensor."""
    return int.from_bytes(hashlib.sha256(record.encode()).digest()[:8], "big") >> 1
