"""LoRA-Null: low-rank adapters that begin in the directions that general inputs hardly have."""

import torch
from torch import Tensor, nn

from harness.contract import Method, Run, Weights
from harness.toolbox import halves, input_moments, low_rank_from


class LoraNull(Method):
    """W = W0 + B A - B0 A0; B0 A0 = W0 Z Z^T, Z (in, r) the eigenvectors of X^T X of least eigenvalue; A and B train.

    X are the inputs of each layer on `samples` general sequences, read by the base before the first step and charged as
    `statistics`. `frozen=True` keeps A where it begins, as the paper's second version does: then the change can never leave the
    null space. Calibrate on nothing that is tested. Decompositions are timed, and in no budget.
    """

    paper = (
        "Tang et al. 2025, arXiv:2503.02659, and its code. "
        "@inproceedings{tang2026loranull, title={Put the Space of LoRA Initialization to the Extreme to Preserve Pre-trained "
        "Knowledge}, author={Tang, Pengwei and others}, booktitle={AAAI}, year={2026}}"
    )
    verified = "B0 A0 acts on r directions, those of least general input; with `frozen` the change stays there; charged"
    off = None
    adds, folds = "linear", True
    search = {"r": (4, 16)}
    bounds = {"r": "[1, inf)", "samples": "[1, inf)"}
    lr_scale = 10.0  # as for lora
    needs = frozenset({"general_data"})
    unsharded = "a matrix's decomposition is that of the whole of it"

    def __init__(self, r: int = 8, samples: int = 256, frozen: bool = False, targets: str = "all-linear"):
        self.r, self.samples, self.frozen, self.targets = r, samples, frozen, targets
        self.null_: Weights = {}
        """Weight name -> Z (in, r)."""

    def prepare(self, model: nn.Module, run: Run) -> None:
        chosen = torch.randperm(len(run.general), generator=run.generator("lora_null"))[: self.samples].tolist()
        for name, moments in input_moments(model, run, [run.general[i] for i in chosen]).items():
            self.null_[name] = torch.linalg.eigh(moments).eigenvectors[:, : self.r].contiguous()

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        wrapped = low_rank_from(model, self.targets, self.r, self._begin)
        if self.frozen:
            for name, parameter in wrapped.named_parameters():
                if "lora_A" in name:
                    parameter.requires_grad_(False)
        return wrapped

    def _begin(self, name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
        if not self.null_:  # before `prepare`, where only its shape is asked for
            return weight.new_zeros(self.r, weight.shape[1]), weight.new_zeros(weight.shape[0], self.r)
        null = self.null_[name].to(weight)
        u, s, v = torch.linalg.svd(weight @ null, full_matrices=False)
        return halves(u, s, v @ null.T)

    def state(self) -> Weights:
        return self.null_

    def restore(self, state: Weights) -> None:
        self.null_ = dict(state)
