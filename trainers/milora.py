"""MiLoRA: low-rank adapters that begin as the least singular directions of each matrix."""

import torch
from torch import Tensor, nn

from harness.contract import Method, Run
from harness.toolbox import halves, low_rank_from


class Milora(Method):
    """W = W0 + B A - B0 A0; B0 A0 = U S V of the r smallest singular values of W0; only A and B train.

    Nothing holds the factors there once they train. The decomposition is made once, when the model is wrapped: timed, and in no
    budget.
    """

    paper = (
        "Wang et al. 2024, arXiv:2406.09044, section 3. "
        "@inproceedings{wang2025milora, title={MiLoRA: Harnessing Minor Singular Components for Parameter-Efficient LLM "
        "Finetuning}, author={Wang, Hanqing and Li, Yixia and Wang, Shuo and Chen, Guanhua and Chen, Yun}, booktitle={NAACL}, "
        "year={2025}}"
    )
    verified = "W0 - B0 A0 has the other singular values; the start is the base bit for bit"
    off = None
    adds, folds = "linear", True
    search = {"r": (4, 16)}
    bounds = {"r": "[1, inf)"}
    lr_scale = 10.0  # as for lora
    unsharded = "a matrix's singular vectors are those of the whole of it"

    def __init__(self, r: int = 8, targets: str = "all-linear"):
        self.r, self.targets = r, targets

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        return low_rank_from(model, self.targets, self.r, self._begin)

    def _begin(self, name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        return halves(u[:, -self.r :], s[-self.r :], v[-self.r :])
