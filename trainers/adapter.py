"""Bottleneck adapters: a small two-layer network behind each feed-forward layer; only these train."""

from typing import Any

import torch
from torch import Tensor, nn

from harness.contract import Method, Run, blocks_of

FEED_FORWARD = ("mlp", "feed_forward", "ffn")
"""What transformers calls the feed-forward layer of a block."""


class Bottleneck(nn.Module):
    """h <- h + W_up relu(W_down h), h (B, T, d) the feed-forward layer's output; W_up = 0 at the start: nothing changes."""

    def __init__(self, layer: nn.Module, width: int, inner: int, like: Tensor):
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(width, inner, device=like.device, dtype=like.dtype)
        self.up = nn.Linear(inner, width, device=like.device, dtype=like.dtype)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        hidden = self.layer(*args, **kwargs)
        return hidden + self.up(torch.relu(self.down(hidden)))


class Adapter(Method):
    """One bottleneck of width d / `reduction` behind each feed-forward layer, before the residual sum."""

    paper = (
        "Houlsby et al. 2019, arXiv:1902.00751; one a block, behind the feed-forward: Pfeiffer et al. 2021, arXiv:2005.00247. "
        "@article{houlsby2019adapter, title={Parameter-Efficient Transfer Learning for NLP}, author={Houlsby, "
        "Neil and others}, journal={arXiv:1902.00751}, year={2019}}"
    )
    verified = "A fresh adapter's logits are the base's bit for bit; what is stored scores as the trained model."
    off = None
    adds = "feed_forward"
    search = {"reduction": (2, 16)}
    bounds = {"reduction": "[1, inf)"}
    lr_scale = 10.0  # a guess: as for low-rank adapters, whose up-projection begins at zero too

    def __init__(self, reduction: int = 4):
        self.reduction = reduction

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        model.requires_grad_(False)
        for block in blocks_of(model):
            name = next((name for name in FEED_FORWARD if hasattr(block, name)), None)
            if name is None:
                raise ValueError(f"{type(block).__name__} has no feed-forward layer named {', '.join(FEED_FORWARD)}: use lora")
            width = model.config.get_text_config().hidden_size  # type: ignore[union-attr, operator]
            like = next(p for p in block.parameters() if p.is_floating_point())  # not one of 4 bits
            setattr(block, name, Bottleneck(getattr(block, name), width, max(1, width // self.reduction), like))
        return model
