"""LISA: a few random blocks train at a time, with embeddings and head; the others rest."""

import torch
from torch import nn

from harness.contract import Method, Run, blocks_of


class Lisa(Method):
    """The budget is cut into `rounds`; in each, `layers` blocks drawn by the seed train, the rest keep still.

    Embeddings, final norm and head always train. The backward pass still goes through resting blocks, but makes no gradients of
    their weights: counted. 0 layers, or as many as the model has, is plain fine-tuning. The paper draws anew every few
    steps, and gives a resting block's optimizer memory back, which this does not.
    """

    paper = (
        "Pan et al. 2024, arXiv:2403.17919, algorithm 1. "
        "@inproceedings{pan2024lisa, title={LISA: Layerwise Importance Sampling for Memory-Efficient Large Language Model "
        "Fine-Tuning}, author={Pan, Rui and Liu, Xiang and Diao, Shizhe and Pi, Renjie and Zhang, Jipeng and Han, Chi and "
        "Zhang, Tong}, booktitle={NeurIPS}, year={2024}}"
    )
    verified = "which blocks train, by trace; resting ones keep their bits and cost less"
    off = {"layers": 0}
    search = {"layers": (1, 8)}
    bounds = {"layers": "[0, inf)", "rounds": "[1, inf)"}
    unsharded = "what is trained changes on the way, and a sharded optimizer fixes it at the start"

    def __init__(self, layers: int = 2, rounds: int = 20):
        self.layers, self.rounds = layers, rounds
        self.block_of_: dict[str, int] = {}
        """Weight name -> its block."""
        self.training_: list[frozenset[int]] = []
        """Blocks that train, by round."""

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        blocks = list(blocks_of(model))
        self.block_of_ = {}
        for index, block in enumerate(blocks):
            for parameter in block.parameters():
                self.block_of_[names[id(parameter)]] = index
        count = self.layers or len(blocks)
        generator = run.generator("lisa")
        draws = [torch.randperm(len(blocks), generator=generator, device="cpu") for _ in range(self.rounds)]
        self.training_ = [frozenset(draw[:count].tolist()) for draw in draws]
        return model

    def rests(self, name: str, fraction: float) -> bool:
        block = self.block_of_.get(name)
        return block is not None and block not in self.training_[min(int(fraction * self.rounds), self.rounds - 1)]
