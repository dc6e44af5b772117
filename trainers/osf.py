"""Orthogonal subspace fine-tuning (peft): each matrix's top singular directions are frozen, the rest train beside them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from harness.contract import Folding, Method, Run
from harness.toolbox import wrapped_by_peft


class Osf(Method):
    """W = U_h S_h V_h + U_l S_l V_l, the first part frozen; gradients are (I - U_h U_h^T) dU_l and dV_l (I - V_h^T V_h).

    `preserved`: how much of a matrix's smaller side the frozen part has, a share below 1, else a number of directions. Adam
    scales coordinates apart, so its steps leave the gradient's subspace a little, as in peft. A layer adds the change of its
    second part to what the base computes. The decomposition is made once, when the model is wrapped: timed, and in no budget.
    """

    paper = (
        "Nayak et al. 2025, arXiv:2504.07097. "
        "@article{nayak2025osf, title={Sculpting Subspaces: Constrained Full Fine-Tuning in LLMs for Continual Learning}, "
        "author={Nayak, Nikhil Shivakumar and others}, journal={arXiv:2504.07097}, year={2025}}"
    )
    verified = "Gradients of U_l and V_l are orthogonal to the frozen part; folded weights score as the wrapped model."
    off = None
    adds, folds = "linear", True
    unsharded = "a matrix's singular vectors are those of the whole of it"
    search = {"preserved": (0.25, 0.9)}
    bounds = {"preserved": "(0, inf)"}

    def __init__(self, preserved: float = 0.5, targets: str = "all-linear"):
        if preserved >= 1 and preserved != int(preserved):
            raise ValueError(f"preserved is a share below 1 or a whole number of directions, not {preserved}")
        self.preserved, self.targets = preserved, targets

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        from peft import OSFConfig
        from peft.tuners.osf.layer import OSFLayer

        rank = self.preserved if self.preserved < 1 else int(self.preserved)
        wrapped = wrapped_by_peft(model, self.targets, OSFConfig, effective_rank=rank)
        for layer in wrapped.modules():
            if isinstance(layer, OSFLayer):
                layer.folding = Subspace(layer)  # type: ignore[assignment]
                layer.forward = partial(changed, layer)  # type: ignore[method-assign]
        return wrapped


class Subspace(Folding):
    """W = W0 + U S V - U0 S0 V0, the last as they began."""

    def __init__(self, layer: Any):
        name = layer.active_adapters[0]
        made = layer.osf_svd_params[name]
        self.factors = (made["U_low"], made["S_low"], made["V_low"])
        self.began = (layer._osf_U_low_init, layer._osf_S_low_init, layer._osf_V_low_init)
        self.name = name

    def __call__(self, start: Tensor, factors: Sequence[Tensor]) -> Tensor:
        began = [part[self.name].to(start) for part in self.began]
        return start + (_product(*factors) - _product(*began))


def changed(layer: Any, x: Tensor) -> Tensor:
    """W x as above. Both products are made alike, to cancel to exactly 0 at the start; peft's one product does not."""
    output = layer.base_layer(x)
    if layer.disable_adapters:
        return output
    folding = layer.folding
    began = [part[folding.name] for part in folding.began]
    return output + (_applied(x, *folding.factors) - _applied(x, *began))


def _product(u: Tensor, s: Tensor, v: Tensor) -> Tensor:
    return (u * s) @ v


def _applied(x: Tensor, u: Tensor, s: Tensor, v: Tensor) -> Tensor:
    return F.linear(F.linear(x, v), u * s)
