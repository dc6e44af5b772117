"""PiSSA: low-rank adapters that begin as the top singular directions of each matrix. Here as a negative control."""

import torch
from torch import Tensor, nn

from harness.contract import Method, Run
from harness.toolbox import halves, low_rank_from


class Pissa(Method):
    """W = W0 + B A - B0 A0; B0 A0 = U_r S_r V_r, the r largest singular values and vectors of W0; only A and B train.

    What is moved is what the base uses most, so it learns fast and forgets much: in PEFT-Arena (arXiv:2605.28819) it ends below
    plain LoRA on both sides. The decomposition is made once, when the model is wrapped: timed, and in no budget.
    """

    paper = (
        "Meng et al. 2024, arXiv:2404.02948, eqs. 2 to 4. "
        "@inproceedings{meng2024pissa, title={PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large "
        "Language Models}, author={Meng, Fanxu and Wang, Zhaohui and Zhang, Muhan}, booktitle={NeurIPS}, year={2024}}"
    )
    verified = "B0 A0 is the best rank-r approximation of W0; the start is the base bit for bit"
    off = None
    adds, folds = "linear", True
    search = {"r": (4, 16)}
    bounds = {"r": "[1, inf)"}
    lr_scale = 10.0  # as for lora: the paper tunes both at one rate
    unsharded = "a matrix's singular vectors are those of the whole of it"

    def __init__(self, r: int = 8, targets: str = "all-linear"):
        self.r, self.targets = r, targets

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        return low_rank_from(model, self.targets, self.r, self._begin)

    def _begin(self, name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        return halves(u[:, : self.r], s[: self.r], v[: self.r])
