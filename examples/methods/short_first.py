"""Curriculum by length: an epoch takes the shortest examples first (ORDER)."""

from __future__ import annotations

import torch

from harness.contract import Example, Method, Run


class ShortFirst(Method):
    """A share of each epoch's examples is ordered by length; the rest follows in random order."""

    paper = """Bengio et al. 2009 order examples by how hard they are; length is the simplest measure of it.

    @article{bengio2009curriculum,
      title={Curriculum Learning},
      author={Bengio, Yoshua and others},
      journal={ICML},
      year={2009}
    }"""
    off = {"share": 0.0}
    bounds = {"share": "[0, 1]"}

    def __init__(self, share: float = 1.0):
        self.share = share

    def order(self, examples: list[Example], run: Run, generator: torch.Generator) -> list[Example]:
        """Return the examples in the order in which an epoch's steps take them."""
        shuffled = super().order(examples, run, generator)
        count = round(self.share * len(shuffled))
        return sorted(shuffled[:count], key=len) + shuffled[count:]
