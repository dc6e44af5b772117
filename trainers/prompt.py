"""Prompt tuning (peft): learned embeddings in front of every input; nothing else trains."""

from torch import nn

from harness.contract import Method, Run
from harness.toolbox import virtual_tokens


class Prompt(Method):
    """`tokens` virtual tokens whose embeddings P train: the model reads [P; E(x)].

    They begin as the embeddings of tokens drawn from the vocabulary by the seed. They are charged in every sequence, and they
    are part of the deployed model: it is scored with them in front, always (without them it is the base, trivially).
    """

    paper = (
        "Lester et al. 2021, arXiv:2104.08691. "
        "@inproceedings{lester2021prompt, title={The Power of Scale for Parameter-Efficient Prompt Tuning}, author={Lester, "
        "Brian and Al-Rfou, Rami and Constant, Noah}, booktitle={EMNLP}, year={2021}}"
    )
    verified = "Decoding with a cache equals decoding without; switched off, the base speaks bit for bit."
    off = None
    adds = "tokens"
    unlike_base = "tokens that stand before every text are attended to, whatever their values"
    search = {"tokens": (5, 50)}
    bounds = {"tokens": "[1, inf)"}
    lr_scale = 100.0  # 2e-3 at 1 B parameters: the middle of the 1e-3 to 5e-3 in use; a guess for other sizes

    def __init__(self, tokens: int = 20):
        self.tokens = tokens

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        from peft import PromptTuningConfig

        return virtual_tokens(model, PromptTuningConfig, num_virtual_tokens=self.tokens, prompt_tuning_init="SAMPLE_VOCAB")
