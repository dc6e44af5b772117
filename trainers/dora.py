"""DoRA (peft): low-rank adapters on a weight's direction, and its magnitude apart."""

from torch import nn

from harness.contract import Method, Run
from harness.toolbox import low_rank


class Dora(Method):
    """W = m V / ||V||, V = W0 + (alpha / r) B A, norms over each output's weights; A, B and m train, m = ||W0|| at the start.

    As in the paper (section 4.3) no gradient goes through ||V||. `targets` is `all-linear` or names joined by commas.
    """

    paper = (
        "Liu et al. 2024, arXiv:2402.09353, eq. 5. "
        "@inproceedings{liu2024dora, title={DoRA: Weight-Decomposed Low-Rank Adaptation}, author={Liu, Shih-Yang and "
        "others}, booktitle={ICML}, year={2024}}"
    )
    verified = "Folded weights are the paper's formula, and score as the wrapped model."
    off = None
    adds, folds = "linear", True
    unsharded = "a layer's norms are taken of its whole weight"
    search = {"r": (4, 16)}
    bounds = {"r": "[1, inf)", "alpha": "[1, inf)", "dropout": "[0, 1)"}
    lr_scale = 10.0  # as for LoRA, whose rate the paper keeps

    def __init__(self, r: int = 8, alpha: int = 16, dropout: float = 0.0, targets: str = "all-linear"):
        self.r, self.alpha, self.dropout, self.targets = r, alpha, dropout, targets

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        return low_rank(model, self.targets, r=self.r, lora_alpha=self.alpha, lora_dropout=self.dropout, use_dora=True)
