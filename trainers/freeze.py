"""Freeze some of the base's blocks and train the rest."""

import torch
from torch import Tensor, nn

from harness.contract import Method, Run, blocks_of


class Freeze(Method):
    """`which` says what the number `layers` of blocks means.

    `bottom`: the first `layers` blocks and the embeddings are frozen (a head tied to the embeddings with them).
    `top`: only the last `layers` blocks, the final norm and an untied head train.
    `important`: only the `layers` blocks whose gradient is largest train: the norm over a block's weights of the gradient
    of the loss at the base, on `batches` micro-batches of the domain, charged. A common heuristic, not a published method.
    The backward pass ends at the lowest trained block, so that frozen ones below it save compute: counted.
    """

    paper = (
        "Zheng et al. 2025, arXiv:2501.13453: frozen embeddings and bottom 1 to 3 blocks keep what looked forgotten. "
        "@article{zheng2025spurious, title={Spurious Forgetting in Continual Learning of Language Models}, author={Zheng, "
        "Junhao and others}, journal={arXiv:2501.13453}, year={2025}}"
    )
    verified = "Which weights train, by trace; `important` takes the block with the larger gradient."
    off = {"layers": 0}
    search = {"layers": (1, 4)}
    bounds = {"layers": "[0, inf)", "which": ("bottom", "top", "important"), "batches": "[1, inf)"}

    def __init__(self, layers: int = 1, which: str = "bottom", batches: int = 8):
        if layers < (0 if which == "bottom" else 1):
            raise ValueError(f"freeze(which={which}) needs at least one layer, not {layers}")
        self.layers, self.which, self.batches = layers, which, batches
        self.norms_ = torch.zeros(0)

    def prepare(self, model: nn.Module, run: Run) -> None:
        """Gradient norm of each block, summed squares over micro-batches."""
        if self.which != "important":
            return
        blocks = blocks_of(model)
        self.norms_ = torch.zeros(len(blocks))
        order = torch.randperm(len(run.domain), generator=run.generator("freeze")).tolist()
        chosen = [run.domain[index] for index in order[: self.batches * run.batch_size]]
        for _, batch in zip(range(self.batches), run.batches(chosen), strict=False):
            with run.charged("importance", model, batch, backward=True):
                run.nll(model, batch)[0].mean().backward()
            for index, block in enumerate(blocks):
                gradients = [p.grad.float() for p in block.parameters() if p.grad is not None]
                self.norms_[index] += sum(float(gradient.square().sum()) for gradient in gradients)
            model.zero_grad()

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        blocks, embeddings = blocks_of(model), model.get_input_embeddings()  # type: ignore[operator]
        if self.layers >= len(blocks) + (self.which != "bottom"):
            raise ValueError(f"freeze(layers={self.layers}): the model has {len(blocks)} blocks; give fewer")
        if self.which == "bottom":
            frozen = [*([embeddings] if self.layers else []), *blocks[: self.layers]]
        elif self.which == "top":
            frozen = [embeddings, *blocks[: len(blocks) - self.layers]]
        else:
            frozen = [model]
        for module in frozen:
            module.requires_grad_(False)
        if self.which == "important":  # before `prepare` (when only priced): as if the lowest were chosen, the dearest case
            norms = self.norms_ if len(self.norms_) else -torch.arange(len(blocks))
            for index in norms.topk(self.layers).indices.tolist():
                blocks[index].requires_grad_(True)
        return model

    def state(self) -> dict[str, Tensor]:
        return {"norms": self.norms_} if len(self.norms_) else {}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.norms_ = state.get("norms", self.norms_)
