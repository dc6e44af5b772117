"""P-tuning (peft): like prompt tuning, with the virtual tokens' embeddings written by a small network that trains too."""

from torch import nn

from harness.contract import Method, Run
from harness.toolbox import virtual_tokens


class Ptuning(Method):
    """The model reads [MLP(P); E(x)]: P holds `tokens` embeddings, the MLP has three layers of width `width` (0: the model's).

    A virtual token's embedding begins at random. Charged in every sequence (the MLP once a batch), and scored with the virtual
    tokens in front, always: they are part of the deployed model.
    """

    paper = (
        "Liu et al. 2021, arXiv:2103.10385. "
        "@article{liu2021ptuning, title={GPT Understands, Too}, author={Liu, Xiao and others}, journal={arXiv:2103.10385}, "
        "year={2021}}"
    )
    verified = "Decoding with a cache equals decoding without; switched off, the base speaks bit for bit."
    off = None
    adds = "tokens"
    unlike_base = "tokens that stand before every text are attended to, whatever their values"
    search = {"tokens": (5, 50)}
    bounds = {"tokens": "[1, inf)", "width": "[0, inf)"}
    lr_scale = 100.0  # 2e-3 at 1 B parameters: the middle of the 1e-3 to 5e-3 in use; a guess for other sizes

    def __init__(self, tokens: int = 20, width: int = 0):
        self.tokens, self.width = tokens, width

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        from peft import PromptEncoderConfig

        return virtual_tokens(
            model, PromptEncoderConfig, num_virtual_tokens=self.tokens, encoder_hidden_size=self.width or None
        )
