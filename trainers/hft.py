"""Half fine-tuning: a random half of the weight matrices rests, drawn anew every round."""

from collections import defaultdict

import torch
from torch import nn

from harness.contract import Method, Run, blocks_of


class Hft(Method):
    """The budget is cut into `rounds`; in each, of every kind of matrix in the blocks (`q_proj`, ...), a part `frozen` rests.

    Which rest is drawn by the seed, round by round. `random_half` draws once. A resting matrix costs no gradient: counted.
    Biases, norms, embeddings and head always train. The paper draws anew before each of its tasks; one task is one round.
    """

    paper = (
        "Hui et al. 2025, arXiv:2404.18466. "
        "@inproceedings{hui2025hft, title={HFT: Half Fine-Tuning for Large Language Models}, author={Hui, "
        "Tingfeng and others}, booktitle={ACL}, year={2025}}"
    )
    verified = "half of every kind rests in each round, another half in the next; resting weights keep their bits"
    off = {"frozen": 0.0}
    search = {"frozen": (0.25, 0.75)}
    bounds = {"frozen": "[0, 1)", "rounds": "[1, inf)"}
    unsharded = "what is trained changes on the way, and a sharded optimizer fixes it at the start"

    def __init__(self, frozen: float = 0.5, rounds: int = 2):
        self.frozen, self.rounds = frozen, rounds
        self.resting_: list[frozenset[str]] = []
        """Names of the weights that rest, by round."""

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        kinds = defaultdict(list)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        for block in blocks_of(model):
            for kind, parameter in block.named_parameters():
                if parameter.dim() > 1:
                    kinds[kind].append(names[id(parameter)])
        generator = run.generator("hft")
        self.resting_ = []
        for _ in range(self.rounds):
            resting: list[str] = []
            for matrices in kinds.values():
                order = torch.randperm(len(matrices), generator=generator, device="cpu").tolist()
                resting += [matrices[index] for index in order[: round(self.frozen * len(matrices))]]
            self.resting_.append(frozenset(resting))
        return model

    def rests(self, name: str, fraction: float) -> bool:
        return name in self.resting_[min(int(fraction * self.rounds), self.rounds - 1)]
