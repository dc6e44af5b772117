"""L2-SP: decay towards the base instead of towards zero."""

from torch import Tensor

from harness.contract import Method


class L2sp(Method):
    """theta <- theta - rate * strength * (theta - theta0) at each step: (strength / 2) ||theta - theta0||^2, decoupled.

    On effective weights, the base's own. Decoupled from Adam, as AdamW's decay and RecAdam's pull are: through Adam's moments
    the penalty would be divided by the size of each weight's own gradients, so that those the task cares least about would be
    held hardest, and it would no longer be an L2 penalty. What counts is rate * strength: near 0.1 it holds hard (RecAdam: 5000
    at a rate of 2e-5), above 1 it would overshoot the base.
    """

    paper = (
        "Li et al. 2018, arXiv:1802.01483, eq. 5; decoupled as in Chen et al. 2020 (RecAdam), arXiv:2004.12651. "
        "@inproceedings{li2018l2sp, title={Explicit Inductive Bias for Transfer Learning with Convolutional Networks}, "
        "author={Li, Xuhong and Grandvalet, Yves and Davoine, Franck}, booktitle={ICML}, year={2018}}"
    )
    verified = "steps on two parameters by hand; holds the weights at the base"
    off = {"strength": 0.0}
    search = {"strength": (1.0, 1000.0)}
    bounds = {"strength": "[0, inf)"}
    decoupled = True  # within the step that other methods wrap: what `ssu` keeps still is not pulled

    def __init__(self, strength: float = 100.0):
        self.strength = strength

    def pull(self, name: str, theta: Tensor, start: Tensor) -> Tensor:
        return self.strength * (theta - start)
