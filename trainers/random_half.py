"""Negative control for choosing what to train: a random half of the weight matrices is frozen."""

from collections import defaultdict

import torch
from torch import nn

from harness.contract import Method, Run, blocks_of


class RandomHalf(Method):
    """A control, not a recommendation: of every kind of matrix in the blocks (`q_proj`, ...) a random part is frozen.

    Half fine-tuning without its stages, drawn once by the seed. A method that chooses its frozen weights by some insight must
    beat it to show that the insight, and not mere halving, keeps what the base knew. Biases, norms and embeddings train.
    """

    paper = (
        "Hui et al. 2025, arXiv:2404.18466 (HFT freezes a random half and draws anew each stage). "
        "@inproceedings{hui2025hft, title={HFT: Half Fine-Tuning for Large Language Models}, author={Hui, "
        "Tingfeng and others}, booktitle={ACL}, year={2025}}"
    )
    verified = "Half of every kind of matrix is frozen."
    off = {"frozen": 0.0}
    search = {"frozen": (0.25, 0.75)}
    bounds = {"frozen": "[0, 1)"}

    def __init__(self, frozen: float = 0.5):
        self.frozen = frozen

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        generator, kinds = run.generator("random_half"), defaultdict(list)
        for block in blocks_of(model):
            for name, parameter in block.named_parameters():
                if parameter.dim() > 1:
                    kinds[name].append(parameter)
        for matrices in kinds.values():
            order = torch.randperm(len(matrices), generator=generator, device="cpu").tolist()
            for index in order[: round(self.frozen * len(matrices))]:
                matrices[index].requires_grad_(False)
        return model
