"""Entropy-adaptive fine-tuning: a token counts less where the model is sure, so confident conflicts overwrite less."""

import math

from torch import Tensor

from harness.contract import Batch, Method


class Eaft(Method):
    """w = (H / ln 20)^power, H the entropy (nats) of the model's 20 likeliest tokens, renormalised among themselves.

    `renorm` divides by the sum of weights, `faithful` by the number of tokens. `power=0` is plain fine-tuning. Published code
    divides by 3.0, for ln 20 = 2.996: under `renorm` the same.
    """

    paper = (
        "Diao et al. 2026, arXiv:2601.02151; as in LLaMA-Factory's `use_eaft_loss`. "
        "@article{diao2026entropy, title={Entropy-Adaptive Fine-Tuning: Resolving Confident Conflicts to Mitigate Forgetting}, "
        "author={Diao, Muxi and Yang, Lele and Gong, Wuxuan and Zhang, Yutong and Yan, Zhonghao and Han, Yufei and Liang, "
        "Kongming and Xu, Weiran and Ma, Zhanyu}, journal={arXiv:2601.02151}, year={2026}}"
    )
    off = {"power": 0.0}
    search = {"power": (0.25, 2.0)}
    bounds = {"power": "[0, inf)", "norm": ("renorm", "faithful")}
    verified = "weights by hand: 1 on a uniform distribution, near 0 on a certain one."

    TOP = 20

    def __init__(self, power: float = 1.0, norm: str = "renorm"):
        self.power, self.norm = power, norm
        self.renorm = norm == "renorm"

    def token_weights(self, nll: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        top = logits.float().topk(min(self.TOP, logits.shape[-1]), dim=-1).values.log_softmax(-1)
        entropy = -(top.exp() * top).sum(-1)
        return (entropy.clamp(min=0.0) / math.log(self.TOP)) ** self.power
