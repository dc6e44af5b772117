"""Self-distilled targets: the domain's answers become the base's own, where it says the right thing."""

import re
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from harness.contract import Example, Method, Run, last_answer

REWRITE = (
    "\n\nThis is the right answer:\n{answer}\n\n"
    "Say it in your own words, as you would answer the question. Keep every fact and number."
)
"""What the base is asked beside the question, where it rewrites the answer."""


class SelfSft(Method):
    """Each record's last answer y* becomes y ~ p0(. | x), the first of at most `samples` that is right; plain SFT on it.

    `how=rewrite`: y ~ p0(. | x, y*, words), which ask to say y* otherwise; where no try is right y* stays. `how=samples`:
    y ~ p0(. | x); where none is right the record is dropped (where none of any record is, all stay, and the report says so).
    Right: y holds y*, case and punctuation aside (a rule of ours; the papers check with the task's own). So long answers are
    rarely rewritten rightly by it: `check=False` takes the first. y has at most `length` times the tokens of the longest y*.
    All before the first step (a later stage: what is trained so far speaks), charged as `generation`. 0 samples: plain.
    """

    paper = (
        "Rewriting: Yang et al. 2024, arXiv:2402.13669; samples: Chen et al. 2025, arXiv:2510.18874. "
        "@inproceedings{yang2024selfdistillation, title={Self-Distillation Bridges Distribution Gap in Language Model "
        "Fine-Tuning}, author={Yang, Zhaorui and others}, booktitle={ACL}, year={2024}} "
        "@article{chen2025retaining, title={Retaining by Doing: The Role of On-Policy Data in Mitigating Forgetting}, "
        "author={Chen, Howard and others}, journal={arXiv:2510.18874}, year={2025}}"
    )
    verified = "which answers are taken, kept and dropped, with a base that is told what to say; charged"
    off = {"samples": 0}
    search = {"temperature": (0.3, 1.2)}
    bounds = {"samples": "[0, inf)", "how": ("rewrite", "samples"), "temperature": "(0, inf)", "length": "(0, inf)"}

    def __init__(
        self,
        samples: int = 2,
        how: str = "rewrite",
        temperature: float = 1.0,
        length: float = 2.0,
        check: bool = True,
    ):
        self.samples, self.how, self.temperature, self.length, self.check = samples, how, temperature, length, check
        self.answers_: list[tuple[int, ...]] = []
        """For each of the stage's examples the answer that was taken; empty where none was."""

    def prepare(self, model: nn.Module, run: Run) -> None:
        examples = list(run.domain)
        self.answers_ = [()] * len(examples)
        limit = max(1, int(self.length * max(len(example) - last_answer(example) for example in examples)))
        for attempt in range(self.samples):
            places = [place for place, answer in enumerate(self.answers_) if not answer]
            prompts = [self._prompt(examples[place], run) for place in places]
            name = f"self_sft {attempt}"
            said = run.generate(model, prompts, limit=limit, temperature=self.temperature, name=name)
            for place, text in zip(places, said, strict=True):
                answer = text.tokens[last_answer(text) :]
                if self._right(answer, examples[place], run):
                    self.answers_[place] = answer

    def stage_begin(self, model: nn.Module, run: Run) -> None:
        self.prepare(model, run)

    def _prompt(self, example: Example, run: Run) -> tuple[int, ...]:
        if self.how == "rewrite":
            return run.prompt_with(example, REWRITE)
        return example.tokens[: last_answer(example)]

    def _right(self, answer: tuple[int, ...], example: Example, run: Run) -> bool:
        wanted = _words(run.text(example.tokens[last_answer(example) :]))
        return not self.check or f" {wanted} " in f" {_words(run.text(answer))} "

    def records(self, examples: list[Example], run: Run) -> list[Example]:
        taken = {example: answer for example, answer in zip(run.domain, self.answers_, strict=False) if answer}
        if not taken:
            return examples
        kept = [example for example in examples if example in taken or self.how == "rewrite"]
        return [_answered(example, taken[example]) if example in taken else example for example in kept]

    def notes(self) -> list[str]:
        if not self.answers_:
            return []
        count = sum(map(bool, self.answers_))
        rest = "the others stay as they are" if self.how == "rewrite" or not count else "the others are left out"
        return [f"{count:,} of {len(self.answers_):,} answers are the model's own; {rest}."]

    def state(self) -> dict[str, Tensor]:
        """(n, T) tokens, right-padded, and (n,) lengths."""
        if not self.answers_:
            return {}
        tokens = pad_sequence([torch.tensor(answer, dtype=torch.long) for answer in self.answers_], batch_first=True)
        return {"tokens": tokens, "lengths": torch.tensor([len(answer) for answer in self.answers_])}

    def restore(self, state: dict[str, Tensor]) -> None:
        if state:
            rows = zip(state["tokens"].tolist(), state["lengths"].tolist(), strict=True)
            self.answers_ = [tuple(tokens[:length]) for tokens, length in rows]


def _answered(example: Example, answer: tuple[int, ...]) -> Example:
    """Return the example with another last answer, of which all is trained."""
    place = last_answer(example)
    tokens = (*example.tokens[:place], *answer)
    return replace(example, tokens=tokens, supervised=(*example.supervised[:place], *(True,) * len(answer)))


def _words(text: str) -> str:
    """Return a text's words and numbers alone, in lower case."""
    return " ".join(re.findall(r"\w+", text.lower()))
