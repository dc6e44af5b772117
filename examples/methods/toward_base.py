"""A pull of every weight towards the base (PULL)."""

from __future__ import annotations

from torch import Tensor

from harness.contract import Method


class TowardBase(Method):
    """Adds strength * (theta - theta0) to the gradient: L2-SP with one strength for every weight."""

    paper = """Li et al. 2018, arXiv:1802.01483, equation 2, with one strength for all weights.

    @article{li2018l2sp,
      title={Explicit Inductive Bias for Transfer Learning with Convolutional Networks},
      author={Li, Xuhong and others},
      journal={arXiv:1802.01483},
      year={2018}
    }"""
    off = {"strength": 0.0}
    bounds = {"strength": "[0, inf)"}
    search = {"strength": (1e-4, 1e-1)}

    def __init__(self, strength: float = 0.01):
        self.strength = strength

    def pull(self, name: str, theta: Tensor, start: Tensor) -> Tensor:
        """Return the elementwise gradient of strength / 2 * |theta - theta0|^2."""
        return self.strength * (theta - start)
