"""Low-rank adapters (peft): W = W0 + (alpha / r) B A, B = 0 at the start; only A and B train."""

from torch import nn

from harness.contract import Method, Run
from harness.toolbox import low_rank


class Lora(Method):
    """LoRA on the named projections; `targets` is `all-linear` or names joined by commas.

    The default adapts all seven projections of a block at rank 8, alpha 16. The original's choice, queries and values only,
    is `lora(r=8, alpha=32, targets='q_proj,v_proj')`. `dropout` acts on the adapter's input while training; 0 by default,
    so that a recipe differs from plain fine-tuning in one thing.
    """

    paper = (
        "Hu et al. 2021, arXiv:2106.09685, eq. 3. "
        "@article{hu2021lora, title={LoRA: Low-Rank Adaptation of Large Language Models}, author={Hu, Edward "
        "J. and others}, journal={arXiv:2106.09685}, year={2021}}"
    )
    verified = "freshly wrapped logits equal the base's; folded weights and pulls on them against autograd through s B A"
    off = None
    adds, folds = "linear", True
    search = {"r": (4, 16)}
    bounds = {"r": "[1, inf)", "alpha": "[1, inf)", "dropout": "[0, 1)"}
    lr_scale = 10.0  # LoRA's best rate is about ten times full fine-tuning's (METHODS; arXiv:2602.04998)

    def __init__(self, r: int = 8, alpha: int = 16, dropout: float = 0.0, targets: str = "all-linear"):
        self.r, self.alpha, self.dropout, self.targets = r, alpha, dropout, targets

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        return low_rank(model, self.targets, r=self.r, lora_alpha=self.alpha, lora_dropout=self.dropout)
