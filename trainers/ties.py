"""TIES trimming, after training: only the largest changes of each tensor stay. No training cost."""

import torch
from torch import Tensor

from harness.contract import Method, Run, Weights


class Ties(Method):
    """theta0 + scale D', D' the change theta - theta0 without all but its `density` largest magnitudes, tensor by tensor.

    Of one model's change: the paper's other steps, electing signs and merging several, change nothing there. It trims over all
    weights at once; this takes each tensor apart, as common merging tools do.
    """

    paper = (
        "Yadav et al. 2023, arXiv:2306.01708, section 4 (trim). "
        "@inproceedings{yadav2023ties, title={TIES-Merging: Resolving Interference When Merging Models}, author={Yadav, "
        "Prateek and Tam, Derek and Choshen, Leshem and Raffel, Colin and Bansal, Mohit}, booktitle={NeurIPS}, year={2023}}"
    )
    verified = "a tensor trimmed by hand, ties in magnitude too; `density` of the changes stay"
    off = {"density": 1.0, "scale": 1.0}
    search = {"density": (0.05, 0.8), "scale": (0.5, 1.5)}
    bounds = {"density": "[0, 1]", "scale": "[0, inf)"}
    needs = frozenset({"line"})

    def __init__(self, density: float = 0.2, scale: float = 1.0):
        self.density, self.scale = density, scale

    def finish(self, weights: Weights, run: Run) -> Weights:
        if self.density == 1 and self.scale == 1:
            return weights
        return {name: run.start[name] + self.scale * self._trimmed(w - run.start[name]) for name, w in weights.items()}

    def _trimmed(self, change: Tensor) -> Tensor:
        count = round(self.density * change.numel())
        kept = torch.zeros_like(change).flatten()
        largest = change.abs().flatten().topk(count).indices
        kept[largest] = change.flatten()[largest]
        return kept.view_as(change)
