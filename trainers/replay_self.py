"""Rehearse what the base itself says: no general data needed."""

from collections.abc import Iterator
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from harness.contract import Example, Method, Run, Step
from harness.toolbox import blend, passes


class ReplaySelf(Method):
    """`size` texts x ~ p0(.|start), of at most `length` tokens, are a `ratio` of all training examples; cross-entropy on both.

    `start=bos`: from nothing; up to a constant the loss on x is then KL(p0 || p) over texts, weighted ratio / (1 - ratio).
    (A question that the base asks first is answered too, at its place in the chat template.)
    `start=prompts`: the base answers the prompts of general examples, which makes it a method of the general track. The
    texts are drawn before the first step at `temperature` (1 keeps p0), charged, and gone round in shuffled passes. What the
    base says at its worst is rehearsed too: nothing is selected.
    """

    paper = (
        "Robins 1995 (pseudorehearsal); with a language model: Sun et al. 2020, arXiv:1909.03329. "
        "@inproceedings{sun2020lamol, title={LAMOL: LAnguage MOdeling for Lifelong Language Learning}, author={Sun, Fan-Keng "
        "and Ho, Cheng-Hao and Lee, Hung-Yi}, booktitle={ICLR}, year={2020}}"
    )
    verified = "what is said is what the base says; charged as executed"
    off = {"ratio": 0.0}
    search = {"ratio": (0.01, 0.5)}
    bounds = {
        "size": "[1, inf)",
        "ratio": "[0, 1)",
        "length": "[1, inf)",
        "start": ("bos", "prompts"),
        "temperature": "(0, inf)",
    }

    def __init__(self, size: int = 256, ratio: float = 0.15, length: int = 64, start: str = "bos", temperature: float = 1.0):
        self.size, self.ratio, self.length, self.start, self.temperature = size, ratio, length, start, temperature
        self.needs = frozenset({"general_data"}) if start == "prompts" else frozenset()
        self.text_: list[Example] = []

    def prepare(self, model: nn.Module, run: Run) -> None:
        prompts: list[tuple[int, ...]] = [()] * self.size
        if self.start == "prompts":
            chosen = torch.randperm(len(run.general), generator=run.generator("replay_self prompts"))[: self.size].tolist()
            prompts = [run.general[i].tokens[: run.general[i].supervised.index(True)] for i in chosen]
        self.text_ = run.generate(model, prompts, limit=self.length, temperature=self.temperature, name="replay_self text")

    def stream(self, steps: Iterator[Step], run: Run) -> Iterator[Step]:
        if not self.text_:
            return steps
        return blend(steps, run.batch_size, repeat(self.ratio), passes(self.text_, run.generator("replay_self order")))

    def state(self) -> dict[str, Tensor]:
        """(n, T) tokens, right-padded, and (n,) lengths of prompts and of whole texts."""
        if not self.text_:
            return {}
        tokens = pad_sequence([torch.tensor(e.tokens) for e in self.text_], batch_first=True)
        lengths = [(e.supervised.index(True), len(e)) for e in self.text_]
        return {"tokens": tokens, "lengths": torch.tensor(lengths)}

    def restore(self, state: dict[str, Tensor]) -> None:
        if not state:
            return
        rows = zip(state["tokens"].tolist(), state["lengths"].tolist(), strict=True)
        self.text_ = [
            Example(f"generated {place}", tuple(tokens[:end]), (False,) * start + (True,) * (end - start), "generated")
            for place, (tokens, (start, end)) in enumerate(rows)
        ]
