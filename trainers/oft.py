"""Orthogonal fine-tuning (peft): inputs of linear layers are rotated; only the rotations train."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.contract import Folding, Method, Run
from harness.toolbox import wrapped_by_peft


class Oft(Method):
    """y = W0 R x, R block-diagonal with blocks R_i = (I + Q_i)(I - Q_i)^-1 of `block` inputs, Q_i skew, 0 at the start.

    The angles between a layer's neurons stay what they were. The inverse is cut off after the Neumann series' fourth power, as
    peft's default is (v2), so that R is orthogonal to that order only. `block` is the nearest divisor of a layer's inputs.
    """

    paper = (
        "Qiu et al. 2023, arXiv:2306.07280; the form that rotates inputs: Qiu et al. 2025, arXiv:2506.19847. "
        "@inproceedings{qiu2023oft, title={Controlling Text-to-Image Diffusion by Orthogonal Finetuning}, author={Qiu, Zeju "
        "and Liu, Weiyang and others}, booktitle={NeurIPS}, year={2023}} "
        "@article{qiu2025oftv2, title={Orthogonal Finetuning Made Scalable}, author={Qiu, Zeju and Liu, Weiyang and Weller, "
        'Adrian and Sch\\"olkopf, Bernhard}, journal={arXiv:2506.19847}, year={2025}}'
    )
    verified = "Folded weights are W0 times the series of Q by hand, and score as the wrapped model; small Q give rotations."
    off = None
    adds, folds = "linear", True
    search = {"block": (8, 64)}
    bounds = {"block": "[2, inf)"}
    lr_scale = 10.0  # as for lora; published rates are LoRA's or a few times that

    def __init__(self, block: int = 32, targets: str = "all-linear"):
        self.block, self.targets = block, targets

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        from peft import OFTConfig
        from peft.tuners.oft import OFTLayer

        wrapped = wrapped_by_peft(model, self.targets, OFTConfig, oft_block_size=self.block, r=0)
        for layer in wrapped.modules():
            if isinstance(layer, OFTLayer):
                layer.folding = Rotation(layer)  # type: ignore[assignment]
        return wrapped


class Rotation(Folding):
    """W = W0 R^T for peft's R, which multiplies rows of inputs from the right."""

    def __init__(self, layer: Any):
        self.rotation = layer.oft_R[layer.active_adapters[0]]
        self.factors = (self.rotation.weight,)

    def __call__(self, start: Tensor, factors: Sequence[Tensor]) -> Tensor:
        made = self.rotation
        blocks = made._cayley_batch(factors[0], made.block_size, made.use_cayley_neumann, made.num_cayley_neumann_terms)
        blocks = blocks.to(start)
        parts = start.unflatten(1, (len(blocks), made.block_size))
        return torch.einsum("orc,rkc->ork", parts, blocks).flatten(1)
