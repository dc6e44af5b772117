"""Self-distillation on the model's own answers: the base, shown the demonstration, teaches the model that is not."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, chain

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from harness.contract import Batch, Example, Method, Run, Step, last_answer
from harness.toolbox import divergence_from_base

SHOWN = (
    "\n\nThis is an example of a response to the question:\n{answer}\n\n"
    "Now answer the question with a response of your own, in the same way."
)
"""What the teacher's question has more than the student's."""


class Sdft(Method):
    """L = mean_t KL(p0(. | x, y*, y_<t) || p(. | x, y_<t)), y ~ p(. | x) drawn from the model as it is at each step.

    x is a record's prompt up to its last answer y*, which only the teacher sees, in words at the end of its question. There is
    no cross-entropy on y*. y has at most `length` times the tokens of the step's longest y* (a bound of ours: answers longer
    than all demonstrations are paid for and rarely wanted); 0 is plain fine-tuning. `direction=reverse` is KL(p || p0):
    papers and ports disagree. The teacher is the frozen base; the paper's moves with the student (EMA 0.01), which a published
    ablation could not tell apart. The base must learn from an example in its prompt: small ones do not. Charged: `generation`
    and `teacher`.
    """

    paper = (
        "Shenfeld et al. 2026, arXiv:2601.19897; frozen teacher, forward KL: tinker-cookbook's recipe. "
        "@article{shenfeld2026sdft, title={Self-Distillation Enables Continual Learning}, author={Shenfeld, Idan and others}, "
        "journal={arXiv:2601.19897}, year={2026}}"
    )
    verified = (
        "answers are the present model's; the loss by hand from both prompts; generation and teacher charged; resumed amid a"
        " run it says the same"
    )
    off = {"length": 0.0}
    search = {"length": (1.0, 4.0)}
    bounds = {"length": "[0, inf)", "temperature": "(0, inf)", "direction": ("forward", "reverse")}
    needs = frozenset({"base_logits"})
    unsharded = "it generates with the whole model between steps"

    def __init__(self, length: float = 2.0, temperature: float = 1.0, direction: str = "forward"):
        self.length, self.temperature, self.direction = length, temperature, direction
        self.sizes_: list[list[tuple[int, int]]] = []
        """For each step drawn so far, each example's tokens before and in the answer: what a resumed run counts by."""
        self.latest_: list[Example] = []
        """The last step drawn, which a resumed run may still have to train on."""

    def stream(self, steps: Iterator[Step], run: Run) -> Iterator[Step]:
        return self._answered(steps, run) if self.length else steps

    def _answered(self, steps: Iterator[Step], run: Run) -> Iterator[Step]:
        for number, step in enumerate(steps):
            if number < len(self.sizes_) - 1:
                yield [_sized(example, *size) for example, size in zip(step, self.sizes_[number], strict=True)]
                continue
            if number == len(self.sizes_):
                if not run.affords_again("generation"):
                    return
                self._answer(step, run, number)
            yield [self._taught(example, answered, run) for example, answered in zip(step, self.latest_, strict=True)]

    def _answer(self, step: Step, run: Run, number: int) -> None:
        """Let the present model answer each example's prompt."""
        ends = [last_answer(example) for example in step]
        prompts = [example.tokens[:end] for example, end in zip(step, ends, strict=True)]
        longest = max(len(example) - end for example, end in zip(step, ends, strict=True))
        limit = max(1, int(self.length * longest))
        name = f"sdft {number}"
        self.latest_ = run.generate(None, prompts, limit=limit, temperature=self.temperature, name=name)
        self.sizes_.append([(last_answer(example), len(example)) for example in self.latest_])

    def _taught(self, example: Example, answered: Example, run: Run) -> Example:
        """The answer as an example of the domain, with what the teacher reads."""
        shown = run.prompt_with(example, SHOWN)
        hidden = last_answer(answered)
        return replace(example, tokens=answered.tokens, supervised=answered.supervised, shown=shown, hidden=hidden)

    def stage_begin(self, model: nn.Module, run: Run) -> None:
        self.sizes_, self.latest_ = [], []

    def share(self, batch: Batch) -> Tensor | float:
        return torch.where(batch.from_source("domain"), 0.0, 1.0) if self.length else 1.0

    def penalty(self, logits: Tensor, batch: Batch, run: Run) -> Tensor:
        if not self.length:
            return torch.zeros_like(logits[:, 0])
        return divergence_from_base(logits, batch, run, reverse=self.direction == "reverse")

    def state(self) -> dict[str, Tensor]:
        """(n, 2) sizes, (k,) examples of each step, and the last step's (m, T) tokens, right-padded."""
        if not self.sizes_:
            return {}
        return {
            "sizes": torch.tensor(list(chain.from_iterable(self.sizes_))),
            "steps": torch.tensor([len(step) for step in self.sizes_]),
            "latest": pad_sequence([torch.tensor(example.tokens) for example in self.latest_], batch_first=True),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        if not state:
            return
        sizes = [(start, end) for start, end in state["sizes"].tolist()]
        ends = list(accumulate(state["steps"].tolist()))
        self.sizes_ = [sizes[first:last] for first, last in zip([0, *ends], ends, strict=False)]
        rows = zip(state["latest"].tolist(), self.sizes_[-1], strict=True)
        self.latest_ = [_sized(Example("generated", tuple(tokens), (), "generated"), *size) for tokens, size in rows]


def _sized(example: Example, start: int, end: int) -> Example:
    """Return the example with an answer from `start` to `end`, its own tokens repeated where it has too few."""
    tokens = (example.tokens * (end // len(example.tokens) + 1))[:end]
    return replace(example, tokens=tokens, supervised=(False,) * start + (True,) * (end - start))
