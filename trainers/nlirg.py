"""NLIRG: weigh each token's loss by how far the model is from it; mastered and hopeless tokens count less."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from harness.contract import Batch, Example, Method, Run, Step


class Nlirg(Method):
    """w = sg[W(l)], W(l) = sigmoid(k (l - x0)) for l <= threshold, sigmoid(centre - l) up to the deadline, 0 beyond.

    `renorm` divides by the sum of weights, `faithful` by the number of tokens whose weighted loss is not 0 (as published).
    `minimum` and `maximum` clamp the weights short of the deadline. `variant=article` is the code that articles print, which
    contradicts their own text: a labelled ablation. `shuffled=True` is the negative control: the same weights, dealt at random
    among the supervised tokens of each micro-batch. `strength` blends towards weight 1: 0 is plain fine-tuning.

    `scale=quantile`, for small vocabularies: W(g(l)), g piecewise linear through (0, 0) and (Q(q), nats) for nats = x0,
    threshold, centre and deadline, Q the quantiles of the base's own token losses on `samples` domain examples (charged as
    `statistics`). q is where a base with 150k tokens has these nats on text of about 1.2 nats a token: `QUANTILES`, a guess of
    ours, no measurement. The logged zones stay in nats, so that recipes compare.

    `token_batch=k` makes an optimizer update of each k targets of every sequence, in order, so that every target, stop token
    and tail included, is trained once. An update changes the weights, so nothing of the prefix can be kept for the next one: it
    is run again up to the last target, and charged. More updates at the same rate move further: compare at each one's best.
    `auto` decides by `auto_token_batch`, once, on the memory then free (on a CPU: enough), and the report says what. 0: whole
    answers, one weighted pass.
    """

    paper = (
        "NLIRG reference implementation (y-trainer), constants k=1.7, x0=1.2, threshold 3, deadline 15. "
        "@misc{nlirg, title={NLIRG, non-linear importance re-weighting of gradients, reference "
        "implementation}, howpublished={y-trainer}}"
    )
    verified = (
        "the reference function to 1e-10 at 15 losses, its mean losses, Phi and the pinned gradient of METHODS section "
        "1; each target trained once by token batches"
    )
    off = {"strength": 0.0, "token_batch": 0}
    search = {"strength": (0.25, 1.0)}
    bounds = {
        "k": "(0, inf)",
        "x0": "[0, inf)",
        "threshold": "[0, inf)",
        "deadline": "(0, inf)",
        "minimum": "[0, inf)",
        "maximum": "[0, inf)",
        "norm": ("renorm", "faithful"),
        "variant": ("reference", "article"),
        "strength": "[0, 1]",
        "scale": ("nats", "quantile"),
        "samples": "[1, inf)",
        "token_batch": "[0, inf)",
    }

    CENTRE = 6.2  # nats: the right branch's half-weight point, part of the definition
    QUANTILES = (0.70, 0.88, 0.975, 0.9999)  # of x0, threshold, centre, deadline

    def __init__(  # noqa: PLR0913
        self,
        k: float = 1.7,
        x0: float = 1.2,
        threshold: float = 3.0,
        deadline: float = 15.0,
        minimum: float = 0.0,
        maximum: float = 1.0,
        norm: str = "renorm",
        variant: str = "reference",
        strength: float = 1.0,
        scale: str = "nats",
        samples: int = 256,
        token_batch: int | str = 0,
        shuffled: bool = False,
    ):
        if minimum > maximum:
            raise ValueError(f"minimum is at most maximum, not {minimum} and {maximum}")
        if isinstance(token_batch, str) and token_batch != "auto":
            raise ValueError(f"token_batch is a number of tokens, 0 for whole answers, or auto, not {token_batch!r}")
        self.k, self.x0, self.threshold, self.deadline = k, x0, threshold, deadline
        self.minimum, self.maximum = minimum, maximum
        self.norm, self.variant, self.strength, self.shuffled = norm, variant, strength, shuffled
        self.scale, self.samples, self.token_batch = scale, samples, token_batch
        self.renorm = norm == "renorm"
        self.knots_: Tensor | None = None
        """(4,) the base's losses at `QUANTILES`, nats."""
        self.split_: tuple[int, int] | None = None
        """Targets of each sequence and sequences in an update, once decided."""

    # --- weights ---

    def weight(self, loss: Tensor) -> Tensor:
        """W at these losses (nats), elementwise; a NaN loss weighs 0."""
        loss = self._rescaled(loss)
        if self.variant == "article":
            left = torch.sigmoid(-self.k * (loss - self.x0))
            middle = torch.sigmoid(self.k * (loss - self.threshold))
            right = torch.where(loss < self.deadline, torch.sigmoid(-self.k * (loss - self.deadline)), 0.0)
            weight = torch.where(loss <= 1.45, left, torch.where(loss < 6.6, middle, right)).clamp(5e-8, 1.0)
        else:
            rising = torch.sigmoid(self.k * (loss - self.x0))
            falling = torch.sigmoid(self.CENTRE - loss)
            weight = torch.where(loss <= self.threshold, rising, falling)
        weight = weight.clamp(self.minimum, self.maximum)
        if self.variant == "reference":
            weight = torch.where(loss < self.deadline, weight, 0.0)
        return weight.nan_to_num(0.0)

    def token_weights(self, nll: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        weights = (1.0 - self.strength) + self.strength * self.weight(nll.float())
        if self.shuffled:
            generator = torch.Generator().manual_seed(int(batch.tokens.sum()))  # a function of the batch: nothing to resume
            weights = weights[torch.randperm(len(weights), generator=generator).to(weights.device)]
        return weights

    # --- scale=quantile ---

    def prepare(self, model: nn.Module, run: Run) -> None:
        if self.scale == "nats" or not self.strength:
            return
        order = torch.randperm(len(run.domain), generator=run.generator("nlirg"))[: self.samples].tolist()
        losses = []
        for batch in run.batches([run.domain[i] for i in order]):
            with torch.no_grad(), run.charged("statistics", model, batch, backward=False):
                losses.append(run.nll(model, batch)[0].double())
        quantiles = torch.tensor(self.QUANTILES, dtype=torch.float64, device=losses[0].device)
        self.knots_ = torch.quantile(torch.cat(losses), quantiles).cpu()

    def _rescaled(self, loss: Tensor) -> Tensor:
        """g(loss): these losses on the scale of a large vocabulary."""
        if self.knots_ is None:
            return loss
        found = torch.cat([torch.zeros(1, dtype=self.knots_.dtype, device=self.knots_.device), self.knots_]).to(loss)
        at = (found + 1e-6 * torch.arange(5).to(loss)).cummax(0).values  # equal quantiles would divide by zero
        nats = torch.tensor([0.0, self.x0, self.threshold, self.CENTRE, self.deadline]).to(loss)
        low = torch.bucketize(loss, at[1:-1])  # beyond the last quantile the last slope goes on
        return nats[low] + (loss - at[low]) * (nats[low + 1] - nats[low]) / (at[low + 1] - at[low])

    # --- token_batch ---

    def split(self, step: Step, run: Run) -> list[Step]:
        if not self.token_batch:
            return [step]
        self.split_ = self.split_ or self._decided(run)
        tokens, rows = self.split_
        parts: list[Step] = []
        for first in range(0, len(step), rows):
            windows = [windows_of(example, tokens) for example in step[first : first + rows]]
            parts += [[part for part in parts_ if part] for parts_ in itertools.zip_longest(*windows)]
        return parts

    def _decided(self, run: Run) -> tuple[int, int]:
        if isinstance(self.token_batch, int):
            return self.token_batch, run.batch_size
        parameters = sum(tensor.numel() for tensor in run.start.values())
        return auto_token_batch(parameters, run.free_memory(), run.batch_size)

    def notes(self) -> list[str]:
        notes = []
        if self.knots_ is not None:
            places = ", ".join(f"{value:.2f}" for value in self.knots_.tolist())
            notes.append(f"x0, threshold, centre and deadline stand at {places} nats, by the base's own losses.")
        if self.token_batch == "auto" and self.split_:
            notes.append(f"token_batch=auto: {self.split_[0]} tokens of {self.split_[1]} sequences an update.")
        return notes

    def state(self) -> dict[str, Tensor]:
        knots = {} if self.knots_ is None else {"knots": self.knots_}
        return knots | ({"split": torch.tensor(self.split_)} if self.split_ else {})

    def restore(self, state: dict[str, Tensor]) -> None:
        self.knots_ = state.get("knots")
        self.split_ = tuple(state["split"].tolist()) if "split" in state else None


def windows_of(example: Example, size: int) -> Iterator[Example]:
    """The example once for each `size` of its targets: these alone supervised, and nothing after the last of them."""
    targets = [place for place, supervised in enumerate(example.supervised) if supervised and place]
    for first in range(0, len(targets), size):
        chosen = targets[first : first + size]
        tokens = example.tokens[: chosen[-1] + 1]
        marks = set(chosen)
        supervised = tuple(place in marks for place in range(len(tokens)))
        yield replace(example, tokens=tokens, supervised=supervised, part=example.part * len(chosen) / len(targets))


def auto_token_batch(parameters: int, free: float, batch_size: int) -> tuple[int, int]:
    """(targets of each sequence, sequences) in an update, for a model of this size and so many bytes free.

    By size: 10 at 7 B, 7 at 13 B, on a line between and beyond, from 5 to 12. Where rows * targets * bytes a token exceed what
    is free, the targets go down first, to 5, then the sequences, to 1. Bytes a token are a guess: 4.5 MB at 7 B (34 bytes a
    layer and unit of width, without checkpointing), by the 2/3 power of the parameters, as width * layers grows.
    """
    wanted = min(12, max(5, round(10 - 3 * (parameters - 7e9) / 6e9)))
    token = 4.5e6 * (parameters / 7e9) ** (2 / 3)
    targets = int(min(wanted, max(5, free / (batch_size * token))))
    return targets, int(min(batch_size, max(1, free / (targets * token))))
