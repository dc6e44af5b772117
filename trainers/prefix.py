"""Prefix tuning (peft): learned keys and values in front of every layer's attention; nothing else trains."""

from torch import nn

from harness.contract import Method, Run
from harness.toolbox import virtual_tokens


class Prefix(Method):
    """Attention over [K_p; K], [V_p; V]: `tokens` key and value vectors a layer train, 0 at the start.

    Not the base even then: a key of 0 takes its share of the softmax, exp(0), and dilutes attention. Charged in every sequence,
    and scored with the prefix active, always: it is part of the deployed model (without it that is the base, trivially).
    """

    paper = (
        "Li and Liang 2021, arXiv:2101.00190 (without its reparametrising network). "
        "@inproceedings{li2021prefix, title={Prefix-Tuning: Optimizing Continuous Prompts for Generation}, author={Li, Xiang "
        "Lisa and Liang, Percy}, booktitle={ACL}, year={2021}}"
    )
    verified = "Decoding with a cache equals decoding without; switched off, the base speaks bit for bit."
    off = None
    adds = "tokens"
    unlike_base = "keys that stand before every text take a share of attention, whatever their values"
    search = {"tokens": (5, 50)}
    bounds = {"tokens": "[1, inf)"}
    lr_scale = 100.0  # 2e-3 at 1 B parameters: the middle of the 1e-3 to 5e-3 in use; a guess for other sizes

    def __init__(self, tokens: int = 20):
        self.tokens = tokens

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        from peft import PrefixTuningConfig

        return virtual_tokens(model, PrefixTuningConfig, num_virtual_tokens=self.tokens, init_weights="zero")
