"""QLoRA: low-rank adapters (peft) over a base whose linear layers are quantised to 4 bits (bitsandbytes)."""

from itertools import chain
from typing import Any

from torch import nn

from harness.contract import Method, Run, blocks_of
from harness.toolbox import low_rank

BLOCK = 64
"""Weights that share a scale; bitsandbytes 0.50 on a CPU dequantises wrongly, silently, where a row is no multiple of it."""


class Qlora(Method):
    """W = NF4(W0) + (alpha / r) B A, B = 0 at the start; NF4 on blocks of 64 weights, their scales quantised in turn.

    The blocks' linear layers are quantised, from the precision in which the base computes; embeddings, head and layers whose
    input width is no multiple of 64 are not. The final weights are the dequantised W0 plus the update, in fp32: what the
    adapted model computes, not quantised again. So the model begins as the quantised base, and what that has lost
    (`qlora, untrained` in the tables) is not forgetting.
    FLOPs are a plain linear layer's: dequantising costs time only, so compare it by seconds on its own device too.
    """

    paper = (
        "Dettmers et al. 2023, arXiv:2305.14314, eq. 5. "
        "@inproceedings{dettmers2023qlora, title={QLoRA: Efficient Finetuning of Quantized LLMs}, author={Dettmers, Tim and "
        "others}, booktitle={NeurIPS}, year={2023}}"
    )
    verified = "Stored weights score as the active 4-bit model to 1e-4."
    off = None
    adds, folds = "linear", True
    unlike_base = "its linear layers are quantised to 4 bits"
    search = {"r": (4, 16)}
    bounds = {"r": "[1, inf)", "alpha": "[1, inf)", "dropout": "[0, 1)"}
    lr_scale = 10.0  # as for lora; the paper's 2e-4 at 7 B is more than that
    unsharded = "4-bit weights cannot be partitioned"

    def __init__(self, r: int = 8, alpha: int = 16, dropout: float = 0.0, targets: str = "all-linear"):
        self.r, self.alpha, self.dropout, self.targets = r, alpha, dropout, targets

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        if not next(model.parameters()).is_meta:  # where only priced: as plain linear layers
            quantise(model)
        return low_rank(model, self.targets, r=self.r, lora_alpha=self.alpha, lora_dropout=self.dropout)


def quantise(model: Any) -> None:
    """Replace the blocks' linear layers by their 4-bit form, in place."""
    from bitsandbytes.nn.modules import Linear4bit

    for module in list(chain.from_iterable(block.modules() for block in blocks_of(model))):
        for name, layer in list(module.named_children()):
            if not isinstance(layer, nn.Linear) or layer.in_features % BLOCK:
                continue
            sizes = layer.in_features, layer.out_features, layer.bias is not None
            small = Linear4bit(*sizes, compute_dtype=layer.weight.dtype, quant_type="nf4", compress_statistics=True)
            small.weight.data = layer.weight.data
            small.bias = layer.bias
            small.support_avx512bf16_for_cpu = False  # else a forward without gradients repacks the weights for good
            setattr(module, name, small.to(layer.weight.device))  # this quantises
            model.is_loaded_in_4bit = True  # peft asks
    if not getattr(model, "is_loaded_in_4bit", False):
        raise ValueError(
            f"qlora: no linear layer's input width is a multiple of {BLOCK}, so nothing can be quantised; use lora"
        )
