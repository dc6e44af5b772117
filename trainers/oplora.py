"""OPLoRA: low-rank adapters whose change is kept orthogonal to the top singular directions of each matrix."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.contract import Folding, Method, Run
from harness.toolbox import low_rank, low_rank_layers


class Oplora(Method):
    """W = W0 + (alpha / r) (I - U_k U_k^T) B A (I - V_k V_k^T), U_k and V_k the top `k` singular vectors of W0, B = 0 at first.

    So the top k singular triples of W0 are those of W too, whatever is learned. `k` is at most half of a matrix's smaller side.
    The decomposition is made once, when the model is wrapped: timed, and in no budget. The projections are charged.
    """

    paper = (
        "Xiong and Xie 2025, arXiv:2510.13003. "
        "@inproceedings{xiong2026oplora, title={OPLoRA: Orthogonal Projection LoRA Prevents Catastrophic Forgetting during "
        "Parameter-Efficient Fine-Tuning}, author={Xiong, Yifeng and Xie, Xiaohui}, booktitle={AAAI}, year={2026}}"
    )
    verified = "after training the top k singular triples are the base's; folded weights score as the wrapped model"
    off = None
    adds, folds = "linear", True
    search = {"r": (4, 16), "k": (16, 256)}
    bounds = {"r": "[1, inf)", "alpha": "[1, inf)", "k": "[1, inf)"}
    lr_scale = 10.0  # as for lora
    unsharded = "a matrix's singular vectors are those of the whole of it"

    def __init__(self, r: int = 8, alpha: int = 16, k: int = 128, targets: str = "all-linear"):
        self.r, self.alpha, self.k, self.targets = r, alpha, k, targets

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        wrapped = low_rank(model, self.targets, r=self.r, lora_alpha=self.alpha)
        for layer in low_rank_layers(wrapped).values():
            layer.folding = Projected(layer, self.k, self.alpha / self.r)
            layer.lora_variant["default"] = layer.folding
        return wrapped


class Projected(Folding):
    """How the layer above folds and, as peft's variant, how it computes."""

    def __init__(self, layer: Any, k: int, scale: float):
        weight = layer.get_base_layer().weight.detach().float()
        u, _, v = torch.linalg.svd(weight.T if layer.fan_in_fan_out else weight, full_matrices=False)
        k = min(k, min(weight.shape) // 2)
        self.layer, self.scale = layer, scale
        self.factors = (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
        layer.register_buffer("top_out", u[:, :k].to(self.factors[0]), persistent=False)
        layer.register_buffer("top_in", v[:k].T.contiguous().to(self.factors[0]), persistent=False)

    def __call__(self, start: Tensor, factors: Sequence[Tensor]) -> Tensor:
        down, up = factors
        top_in, top_out = self.layer.top_in.to(start), self.layer.top_out.to(start)
        change = self.scale * (up - top_out @ (top_out.T @ up)) @ (down - (down @ top_in) @ top_in.T)
        return start + (change.T if self.layer.fan_in_fan_out else change)

    def forward(self, layer: Any, *, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """Add to what the base computes."""
        down, up = self.factors
        inner = F.linear(x - (x @ layer.top_in) @ layer.top_in.T, down)
        outer = F.linear(inner, up)
        return result + self.scale * (outer - (outer @ layer.top_out) @ layer.top_out.T)
