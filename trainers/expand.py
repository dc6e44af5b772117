"""Block expansion (LLaMA Pro): copied blocks that begin as the identity; only they train."""

import copy

from torch import nn

from harness.contract import Method, Run, blocks_of

OUTPUTS = (
    "o_proj", "out_proj", "down_proj", "c_proj", "dense", "dense_4h_to_h", "fc_out", "fc2", "w2", "output_linear",
)  # fmt: skip
"""What transformers calls the last projection of a block's attention, and of its feed-forward layers: of each expert too."""


class Expand(Method):
    """The blocks are cut into `blocks` groups; a copy of each group's last one follows, its output projections 0.

    Such a block passes on what the residual stream brings, so the expanded model begins as the base, bit for bit. It is deeper
    and slower for ever: training is charged for that, answering is not.
    """

    paper = (
        "Wu et al. 2024, arXiv:2401.02415 (8 new blocks for 32). "
        "@inproceedings{wu2024llamapro, title={LLaMA Pro: Progressive LLaMA with Block Expansion}, author={Wu, Chengyue and "
        "others}, booktitle={ACL}, year={2024}}"
    )
    verified = "The expanded model is the base bit for bit; decoding with a cache equals decoding without."
    off = None
    adds = "blocks"
    search = {"blocks": (1, 4)}
    bounds = {"blocks": "[1, inf)"}
    lr_scale = 3.0  # a guess: whole blocks, as in full fine-tuning, but from zero; the paper's 2e-4 is a pre-training rate

    def __init__(self, blocks: int = 1):
        self.blocks = blocks

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        own, config = blocks_of(model), model.config.get_text_config()  # type: ignore[union-attr, operator]
        n, kinds = len(own), list(getattr(config, "layer_types", None) or [])
        if self.blocks > n:
            raise ValueError(f"expand(blocks={self.blocks}): the model has {n} blocks; give at most as many")
        model.requires_grad_(False)
        for group in reversed(range(1, self.blocks + 1)):
            place = group * n // self.blocks  # behind the group's last block
            own.insert(place, _identity(own[place - 1]))
            kinds[place:place] = kinds[place - 1 : place]
        config.num_hidden_layers = len(own)
        if kinds:
            config.layer_types = kinds
        for index, block in enumerate(own):  # the key-value cache knows a block by its number
            for module in block.modules():
                if hasattr(module, "layer_idx"):
                    module.layer_idx = index  # type: ignore[assignment]
        return model


def _identity(block: nn.Module) -> nn.Module:
    """A trainable copy whose branches add nothing yet: every output projection is 0, those of experts too."""
    new = copy.deepcopy(block).requires_grad_(True)
    outputs = {name: parameter for name, parameter in new.named_parameters() if _is_output(name)}
    if len({name.partition(".")[0] for name in outputs}) < 2:
        raise ValueError(f"{type(block).__name__} has no two branches with output projections named {', '.join(OUTPUTS)}")
    for parameter in outputs.values():
        nn.init.zeros_(parameter)
    return new


def _is_output(name: str) -> bool:
    """Whether a parameter is an output projection's: a layer's weight or bias, or experts held in one weight."""
    parts = [part.removesuffix("_bias") for part in name.split(".")]
    return any(part in OUTPUTS for part in parts[-2:])
