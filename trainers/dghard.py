"""DG-Hard, after training: what looks like noise in each matrix's change is taken back. No training cost."""

import math
from functools import cache

import torch
from torch import Tensor

from harness.contract import Method, Run, Weights


class Dghard(Method):
    """W0 + D', D' the change W - W0 (m, n) without its singular values up to `scale` omega(beta) median(s) / mu(beta).

    beta = min(m, n) / max(m, n); omega(beta) = sqrt(2 (beta + 1) + 8 beta / (beta + 1 + sqrt(beta^2 + 14 beta + 1))), Gavish
    and Donoho's best hard threshold; mu(beta) the median of the singular values of pure noise (Marchenko-Pastur). Biases, norms
    and matrices of fewer than 1024 weights keep their change. In fp32, after training: charged nothing. The change that
    low-rank adapters make has few singular values above 0, so its median is 0 and nothing is taken back. A single group's
    preprint.
    """

    paper = (
        "Abro and Tahir 2026, arXiv:2605.20296; threshold: Gavish and Donoho 2014, arXiv:1305.5870. "
        "@misc{abro2026spectral, title={Spectral Unforgetting: Post-Hoc Recovery of Damaged Capabilities Without Retraining}, "
        "author={Abro, Aarash and Tahir, Muhammad}, year={2026}, eprint={2605.20296}, archivePrefix={arXiv}}"
    )
    verified = "omega(1) = 4/sqrt(3); mu(1) and mu(0.5) by simulated noise; a spike in noise is kept, the noise taken out"
    off = {"scale": 0.0}
    search = {"scale": (0.5, 2.0)}
    bounds = {"scale": "[0, inf)"}
    needs = frozenset({"line"})

    LEAST = 1024
    """Weights that a matrix has at least, to be looked at."""

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def finish(self, weights: Weights, run: Run) -> Weights:
        if not self.scale:
            return weights
        return {name: self._repaired(run.start[name], tuned) for name, tuned in weights.items()}

    def _repaired(self, start: Tensor, tuned: Tensor) -> Tensor:
        if tuned.dim() != 2 or tuned.numel() < self.LEAST or torch.equal(start, tuned):
            return tuned
        u, s, v = torch.linalg.svd(tuned - start, full_matrices=False)
        ratio = min(tuned.shape) / max(tuned.shape)
        kept = s > self.scale * omega(ratio) * s.median() / noise_median(ratio)
        return start + (u[:, kept] * s[kept]) @ v[kept]


def omega(ratio: float) -> float:
    """Return Gavish and Donoho's threshold for a matrix of this ratio of sides, over the noise times sqrt(longer side)."""
    return math.sqrt(2 * (ratio + 1) + 8 * ratio / (ratio + 1 + math.sqrt(ratio**2 + 14 * ratio + 1)))


@cache
def noise_median(ratio: float) -> float:
    """Return the median singular value of a matrix of unit noise of this ratio of sides, over sqrt(longer side).

    The Marchenko-Pastur density of its square, summed on a grid.
    """
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    edges = torch.linspace(low, high, 200_001, dtype=torch.float64)
    middles = (edges[1:] + edges[:-1]) / 2
    shares = (((high - middles) * (middles - low)).sqrt() / middles).cumsum(0)
    return math.sqrt(middles[torch.searchsorted(shares, shares[-1] / 2)].item())
