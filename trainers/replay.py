"""Rehearse from a small buffer of general data."""

from collections.abc import Iterator

import torch

from harness.contract import Example, Method, Run, Step, blend


class Replay(Method):
    """A buffer of `size` general examples, drawn once; a `ratio` of all training examples comes from it, uniformly.

    `every=k` rehearses only in each k-th step, k times as much. With one stage this is `mix` with a finite pool.
    """

    paper = (
        "Chaudhry et al. 2019, arXiv:1902.10486. "
        "@article{chaudhry2019er, title={On Tiny Episodic Memories in Continual Learning}, author={Chaudhry, "
        "Arslan and others}, journal={arXiv:1902.10486}, year={2019}}"
    )
    off = {"ratio": 0.0}
    search = {"ratio": (0.01, 0.5)}

    def __init__(self, size: int = 256, ratio: float = 0.15, every: int = 1):
        if not 0 <= ratio * every < 1:
            raise ValueError(f"ratio * every is the share of a rehearsing step, from 0 to below 1, not {ratio * every:g}")
        self.size, self.ratio, self.every = size, ratio, every
        self.needs = frozenset({"general_data"}) if ratio else frozenset()

    def stream(self, steps: Iterator[Step], run: Run) -> Iterator[Step]:
        return blend(steps, run.batch_size, self.ratio, self._draws(run), self.every) if self.ratio else steps

    def _draws(self, run: Run) -> Iterator[Example]:
        """Uniform draws from the buffer, for ever."""
        generator = run.generator("replay")
        buffer = [run.general[i] for i in torch.randperm(len(run.general), generator=generator)[: self.size].tolist()]
        while True:
            yield buffer[int(torch.randint(len(buffer), (), generator=generator))]
