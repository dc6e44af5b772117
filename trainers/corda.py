"""CorDA, knowledge-preserved: low-rank adapters that begin where general inputs are least."""

import torch
from torch import Tensor, nn

from harness.contract import Method, Run, Weights
from harness.toolbox import halves, input_moments, low_rank_from


class Corda(Method):
    """W = W0 + B A - B0 A0; B0 A0 = U S V C^-1 over the r least singular values of W0 C = U S V; only A and B train.

    C = X^T X / N is of the inputs of each layer on `samples` general sequences, read by the base before the first step and
    charged as `statistics`; 1 % of its mean diagonal is added to it so that it has an inverse (published code begins there and
    doubles). Calibrate on nothing that is tested: the general pool's training part. Decompositions are timed, and in no budget.
    """

    paper = (
        "Yang et al. 2024, arXiv:2406.05223, section 3 (knowledge-preserved adaptation). "
        "@inproceedings{yang2024corda, title={CorDA: Context-Oriented Decomposition Adaptation of Large Language Models for "
        "Task-Aware Parameter-Efficient Fine-tuning}, author={Yang, Yibo and Li, Xiaojie and Zhou, Zhongzhu and Song, Shuaiwen "
        "Leon and Wu, Jianlong and Nie, Liqiang and Ghanem, Bernard}, booktitle={NeurIPS}, year={2024}}"
    )
    verified = "C from the layers' inputs by hand, padding left out; B0 A0 moves general outputs least; charged"
    off = None
    adds, folds = "linear", True
    search = {"r": (4, 16)}
    bounds = {"r": "[1, inf)", "samples": "[1, inf)"}
    lr_scale = 10.0  # as for lora
    needs = frozenset({"general_data"})
    unsharded = "a matrix's decomposition is that of the whole of it"

    DAMP = 0.01

    def __init__(self, r: int = 8, samples: int = 256, targets: str = "all-linear"):
        self.r, self.samples, self.targets = r, samples, targets
        self.factors_: Weights = {}
        """`<weight>/down` and `<weight>/up`."""

    def prepare(self, model: nn.Module, run: Run) -> None:
        chosen = torch.randperm(len(run.general), generator=run.generator("corda"))[: self.samples].tolist()
        weights = dict(model.named_parameters())
        for name, moments in input_moments(model, run, [run.general[i] for i in chosen]).items():
            down, up = self._factors(weights[name].detach().float(), moments.to(weights[name].device))
            self.factors_ |= {f"{name}/down": down, f"{name}/up": up}

    def _factors(self, weight: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
        damped = moments + self.DAMP * moments.diagonal().mean() * torch.eye(len(moments), device=moments.device)
        u, s, v = torch.linalg.svd(weight @ damped, full_matrices=False)
        least = torch.linalg.solve(damped, v[-self.r :], left=False)  # V C^-1
        return tuple(part.contiguous() for part in halves(u[:, -self.r :], s[-self.r :], least))  # type: ignore[return-value]

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        return low_rank_from(model, self.targets, self.r, self._begin)

    def _begin(self, name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
        if not self.factors_:  # before `prepare`, where only its shape is asked for
            return weight.new_zeros(self.r, weight.shape[1]), weight.new_zeros(weight.shape[0], self.r)
        return self.factors_[f"{name}/down"], self.factors_[f"{name}/up"]

    def state(self) -> Weights:
        return self.factors_

    def restore(self, state: Weights) -> None:
        self.factors_ = dict(state)
