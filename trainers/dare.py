"""DARE, after training: a random part of the change is dropped, the rest made larger to match. No training cost."""

import torch

from harness.contract import Method, Run, Weights


class Dare(Method):
    """theta0 + m D / (1 - drop), D = theta - theta0, m 0 with probability `drop` at each weight, else 1; drawn by the seed."""

    paper = (
        "Yu et al. 2023, arXiv:2311.03099, eqs. 1 and 2. "
        "@inproceedings{yu2024dare, title={Language Models are Super Mario: Absorbing Abilities from Homologous Models as a "
        "Free Lunch}, author={Yu, Le and Yu, Bowen and Yu, Haiyang and Huang, Fei and Li, Yongbin}, booktitle={ICML}, "
        "year={2024}}"
    )
    verified = "the share that is dropped; what stays is the change over 1 - drop"
    off = {"drop": 0.0}
    search = {"drop": (0.1, 0.95)}
    bounds = {"drop": "[0, 1)"}
    needs = frozenset({"line"})

    def __init__(self, drop: float = 0.9):
        self.drop = drop

    def finish(self, weights: Weights, run: Run) -> Weights:
        if not self.drop:
            return weights
        generator = run.generator("dare")
        final = {}
        for name, tuned in weights.items():
            stays = torch.rand(tuned.shape, generator=generator) >= self.drop
            final[name] = run.start[name] + stays * (tuned - run.start[name]) / (1 - self.drop)
        return final
