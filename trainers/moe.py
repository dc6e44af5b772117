"""A mixture of low-rank experts in each linear layer, with a learned router and a null expert that keeps the base's path."""

from itertools import chain

import torch
from torch import Tensor, nn

from harness.contract import Batch, Method, Run, blocks_of


class Mixture(nn.Module):
    """y = W0 x + (alpha / r) sum_k G_k(x) B_k A_k x, G = softmax(W_g x) over K experts and a null one, which adds nothing."""

    def __init__(self, layer: nn.Linear, experts: int, r: int, alpha: int):
        super().__init__()
        like = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        self.layer, self.r, self.scale = layer, r, alpha / r
        self.a = nn.Parameter(torch.empty(experts * r, layer.in_features, **like))
        self.b = nn.Parameter(torch.zeros(layer.out_features, experts * r, **like))
        self.router = nn.Parameter(torch.zeros(experts + 1, layer.in_features, **like))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)
        nn.init.normal_(self.router, std=0.02)
        self.gates: Tensor | None = None
        """(B, T, K + 1) of the last forward pass in training."""

    def forward(self, x: Tensor) -> Tensor:
        gates = nn.functional.linear(x, self.router).float().softmax(-1)
        if self.training:
            self.gates = gates
        weights = (self.scale * gates[..., :-1]).to(x.dtype).repeat_interleave(self.r, dim=-1)
        return self.layer(x) + nn.functional.linear(nn.functional.linear(x, self.a) * weights, self.b)


class Moe(Method):
    """Every token is routed by itself, in training and testing alike: no task is named. `targets`: names joined by commas, or
    `all-linear` (of the blocks).

    `balance` adds lambda var(u) / mean(u)^2, u the mean gates over real tokens, averaged over layers: the published loss
    without its types of samples, which would need task labels. The log has the mean gate of each expert, the null expert last.
    """

    paper = (
        "Dou et al. 2024, arXiv:2312.09979 (LoRAMoE: experts in the feed-forward layers, softmax over all); null expert added. "
        " @inproceedings{dou2024loramoe, title={LoRAMoE: Alleviating World Knowledge Forgetting in Large Language "
        "Models via MoE-Style Plugin}, author={Dou, Shihan and others}, booktitle={ACL}, year={2024}}"
    )
    verified = "The fresh mixture is the base bit for bit; the logged shares sum to 1."
    off = None
    adds = "linear"
    search = {"experts": (2, 8), "r": (2, 16), "balance": (0.0, 0.1)}
    bounds = {"experts": "[1, inf)", "r": "[1, inf)", "alpha": "[1, inf)", "balance": "[0, inf)"}
    lr_scale = 10.0  # as for lora

    def __init__(
        self, experts: int = 4, r: int = 4, alpha: int = 8, balance: float = 0.0, targets: str = "gate_proj,up_proj,down_proj"
    ):
        self.experts, self.r, self.alpha, self.balance, self.targets = experts, r, alpha, balance, targets
        self._layers: list[Mixture] = []

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        model.requires_grad_(False)
        wanted, layers = set(self.targets.split(",")), []
        for module in list(chain.from_iterable(block.modules() for block in blocks_of(model))):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear) and (self.targets == "all-linear" or name in wanted):
                    layers.append(Mixture(child, self.experts, self.r, self.alpha))
                    setattr(module, name, layers[-1])
        if not layers:
            raise ValueError(f"moe(targets={self.targets}): the model has no such linear layers; try all-linear")
        if not layers[0].a.is_meta:  # a model that is only priced
            self._layers = layers
        return model

    def penalty(self, logits: Tensor, batch: Batch, run: Run) -> Tensor:
        if not self.balance:
            return torch.zeros_like(logits[:, 0])
        shares = self._shares(batch)
        uneven = (shares.var(1, correction=0) / shares.mean(1).square()).mean()
        return (self.balance * uneven).expand(len(logits))

    def _shares(self, batch: Batch) -> Tensor:
        """(layers, K + 1) mean gates over the real tokens of the batch just read."""
        mask = batch.mask.unsqueeze(-1)
        return torch.stack([(layer.gates * mask).sum((0, 1)) / mask.sum() for layer in self._layers if layer.gates is not None])

    def log(self) -> dict[str, float]:
        """Mean gate of each expert over all layers and places of the last micro-batch."""
        means = torch.stack([layer.gates.detach().mean((0, 1)) for layer in self._layers if layer.gates is not None]).mean(0)
        return {f"expert {k}" if k < self.experts else "null expert": share for k, share in enumerate(means.tolist())}
