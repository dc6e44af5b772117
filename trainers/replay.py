"""Rehearse from a small buffer of general data."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat

import torch

from harness.contract import Example, Method, Run, Step
from harness.toolbox import blend


class Replay(Method):
    """A buffer of `size` general examples, drawn once; a `ratio` of all training examples comes from it, uniformly.

    `every=k` rehearses only in each k-th step, k times as much. With one stage this is `mix` with a finite pool: after n
    steps of B examples the buffer has been gone through `ratio * n * B / size` times, in expectation each example so often.
    `shuffled=True` is the negative control: the tokens of every rehearsed answer stand in a random order, drawn once.
    """

    paper = (
        "Chaudhry et al. 2019, arXiv:1902.10486. "
        "@article{chaudhry2019er, title={On Tiny Episodic Memories in Continual Learning}, author={Chaudhry, "
        "Arslan and others}, journal={arXiv:1902.10486}, year={2019}}"
    )
    verified = "ratio exact over 1,000 steps; draws from its buffer only; every k-th step; the shuffled control"
    off = {"ratio": 0.0}
    search = {"ratio": (0.01, 0.5)}
    bounds = {"size": "[1, inf)", "ratio": "[0, 1)", "every": "[1, inf)"}
    needs = frozenset({"general_data"})

    def __init__(self, size: int = 256, ratio: float = 0.15, every: int = 1, shuffled: bool = False):
        if not 0 <= ratio * every < 1:
            raise ValueError(f"ratio * every is the share of a rehearsing step, from 0 to below 1, not {ratio * every:g}")
        self.size, self.ratio, self.every, self.shuffled = size, ratio, every, shuffled
        self.drawn_, self.buffer_ = 0, 0

    def stream(self, steps: Iterator[Step], run: Run) -> Iterator[Step]:
        return blend(steps, run.batch_size, repeat(self.ratio), self._draws(run), self.every)

    def _draws(self, run: Run) -> Iterator[Example]:
        """Uniform draws from the buffer, for ever."""
        generator = run.generator("replay")
        buffer = [run.general[i] for i in torch.randperm(len(run.general), generator=generator)[: self.size].tolist()]
        if self.shuffled:
            buffer = [_shuffled(example, generator) for example in buffer]
        self.buffer_ = len(buffer)
        while True:
            self.drawn_ += 1
            yield buffer[int(torch.randint(len(buffer), (), generator=generator))]

    def notes(self) -> list[str]:
        if not self.drawn_:
            return []
        passes = self.drawn_ / self.buffer_
        return [f"{self.drawn_:,} rehearsed examples from a buffer of {self.buffer_:,}: {passes:.1f} passes over it."]


def _shuffled(example: Example, generator: torch.Generator) -> Example:
    """The same prompt and the same supervised tokens, these in a random order."""
    tokens = torch.tensor(example.tokens)
    answers = torch.tensor(example.supervised)
    answer = tokens[answers]
    tokens[answers] = answer[torch.randperm(len(answer), generator=generator)]
    return replace(example, tokens=tuple(tokens.tolist()))
