"""Drift: how far a tuned model has moved from its base on the same tokens, and how well it predicts them.

KL(base || tuned) = sum_v p_base(v) (log p_base(v) - log p_tuned(v)), over the full vocabulary at every supervised token's
place (arXiv:2509.04259 uses it on domain inputs to predict forgetting), in fp32, averaged over an item's tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from harness.contract import Batch, Example
from harness.decoding.generate import batched
from harness.models.batches import collate
from harness.models.forward import device_of, logits_at, nll, vocabulary
from harness.models.placement import places_of, token_budget_of, while_memory_runs_out
from harness.stats.measures import HELD_OUT_TEXTS
from harness.store.journal import Journal
from harness.store.schema import ItemRow

CACHE_BYTES = 512 * 2**20
SAME_LOSS = 1e-3
"""Relative difference that rounding may make between two ways to the same loss in fp32."""
METRICS = {"nll": "likelihood", "kl_to_base": "drift", "bits_per_byte": "drift"}
"""Metric -> channel; lower is better for all."""
Base = Callable[[], nn.Module]
"""Gives the untouched base in fp32, where scoring happens: asked for only when something is scored."""


class Drift:
    """Measures models on fixed examples against one base, whose log-probabilities are kept where they are small enough."""

    def __init__(
        self, base: Base, examples: Sequence[Example], decode: Callable[[Sequence[int]], str], token_budget: int | None = None
    ) -> None:
        """`token_budget`: padded tokens of one forward pass; not given, what suits the device."""
        self._decode, self._budget = decode, token_budget
        # An example whose only supervised token is its first has nothing that predicts it.
        self.base, self.examples = base, [example for example in examples if any(example.supervised[1:])]
        self._bytes = {example: max(1, len(decode(_answers(example)).encode())) for example in self.examples}
        self._known: dict[tuple[Example, ...], Tensor] = {}

    @cached_property
    def _keeps(self) -> bool:
        """Whether the base's log-probabilities are small enough to be kept."""
        return sum(map(_places, self.examples)) * vocabulary(self.base()) * 4 <= CACHE_BYTES

    @torch.no_grad()
    def check(self) -> None:
        """Hold our loss of the shortest example to the model's own: unshifted targets once passed for forgetting elsewhere."""
        if not self.examples:
            return

        # The shortest example is enough to tell a shift by one.
        base = self.base()
        example = min(self.examples, key=lambda example: (len(example), example.id))
        batch = collate([example], device_of(base))
        labels = batch.tokens.masked_fill(~torch.tensor([example.supervised], device=batch.tokens.device), -100)
        models_own = float(base(input_ids=batch.tokens, labels=labels).loss)
        ours = float(nll(base, batch)[0].mean())
        if abs(ours - models_own) > SAME_LOSS * (1 + models_own):
            raise RuntimeError(
                f"held-out loss is {ours:.4f} where the model's own is {models_own:.4f}: targets are not shifted by one"
            )

    def first(self, n: int) -> Drift:
        """Return the same on the first n examples."""
        return Drift(self.base, self.examples[:n], self._decode, self._budget)

    def remember(self) -> None:
        """Keep the base's log-probabilities now; not where they are too large to be kept."""
        base = self.base()
        # Computed again for each model, in place of filling the memory.
        if not self._keeps:
            return
        for batch in batched(self.examples, len, self._budget or token_budget_of(base), _places, places_of(base)):
            self._of_base(base, collate(batch, device_of(base)))

    def measure(self, model: nn.Module, journal: Journal | None = None) -> list[tuple[Example, dict[str, float]]]:
        """Return per example: nats a supervised token, KL to the base in nats a token, bits a byte of the answers.

        Batches that the journal knows are not computed again; they are halved while memory runs out.
        """
        base = self.base()
        budget = self._budget or token_budget_of(base)
        return while_memory_runs_out(lambda tokens: self._measured(model, base, tokens, journal or Journal()), budget)

    def rows(
        self,
        group: str,
        model: nn.Module,
        journal: Journal | None,
        cluster_of: Mapping[str, str],
    ) -> list[ItemRow]:
        """Return one row per example and metric; `cluster_of`: id of an example's record -> cluster."""
        name = drift_task(group)
        fixed: ItemRow = {"task": name, "family": name}
        fixed |= DRIFT_GROUPS[group]
        fixed |= {"primary": False, "higher_better": False, "chance": 0.0}
        rows: list[ItemRow] = []
        for example, values in self.measure(model, journal):
            # examples cut from one record share its cluster
            record = example.id.partition(".")[0]
            item: ItemRow = {"item": example.id, "cluster": cluster_of.get(record, record)}
            for metric, value in values.items():
                row: ItemRow = {"channel": METRICS[metric], "metric": metric, "score": value}
                rows.append(fixed | item | row)
        return rows

    def _measured(
        self, model: nn.Module, base: nn.Module, budget: int, journal: Journal
    ) -> list[tuple[Example, dict[str, float]]]:
        """Return the same, in batches of so many padded tokens."""
        measured = []
        for examples in batched(self.examples, len, budget, _places, places_of(base)):
            # Named by content: an evaluation that was killed finds its batches again.
            name = ["drift", [[example.id, example.tokens, example.supervised] for example in examples]]
            values = journal.once(
                name, lambda examples=examples: self._measure(model, base, collate(examples, device_of(base)))
            )
            measured += zip(examples, values, strict=True)
        return measured

    @torch.no_grad()
    def _measure(self, model: nn.Module, base: nn.Module, batch: Batch) -> list[dict[str, float]]:
        """Return the same of each row of one batch."""
        tuned = logits_at(model, batch).log_softmax(-1)
        nll = -tuned.gather(1, batch.labels[:, None]).squeeze(1)
        return self._items(batch, nll, divergence(self._of_base(base, batch), tuned))

    @torch.no_grad()
    def _of_base(self, base: nn.Module, batch: Batch) -> Tensor:
        """Return (S, V) log-probabilities of the base on a batch."""
        if batch.examples in self._known:
            return self._known[batch.examples]
        log_probs = logits_at(base, batch).log_softmax(-1)

        # The base answers the same for every model, so it is asked once where memory allows.
        if self._keeps:
            self._known[batch.examples] = log_probs
        return log_probs

    def _items(self, batch: Batch, nll: Tensor, kl: Tensor) -> list[dict[str, float]]:
        """Return means and sums over each row's supervised tokens."""
        # In double: sums over many tokens in fp32 would depend on their order.
        table = torch.stack([torch.ones_like(nll), nll, kl], 1).double()
        rows = torch.zeros(len(batch.examples), 3, dtype=torch.double, device=nll.device).index_add_(0, batch.rows, table)
        items = []
        for example, (n, loss, moved) in zip(batch.examples, rows.tolist(), strict=False):
            bits = loss / math.log(2) / self._bytes[example]
            items.append({"nll": loss / n, "kl_to_base": moved / n, "bits_per_byte": bits})
        return items


def divergence(base: Tensor, tuned: Tensor) -> Tensor:
    """Return (S,) KL(base || tuned) in nats, from (S, V) log-probabilities; rounding may not make it negative."""
    # Rounding makes the divergence of two equal distributions a tiny negative number.
    return (base.exp() * (base - tuned)).sum(-1).clamp_min(0.0)


def _places(example: Example) -> int:
    """Return an example's supervised tokens that something predicts."""
    return sum(example.supervised[1:])


def _answers(example: Example) -> list[int]:
    return [token for token, supervised in zip(example.tokens, example.supervised, strict=False) if supervised]


DRIFT_GROUPS: dict[str, ItemRow] = {
    "domain": {"group": "domain", "seen": None},
    "general": {"group": "general", "seen": True},
    "held_out": {"group": "general", "seen": False},
}
"""Group of texts whose drift is measured -> columns of its rows. The pool's records (`general`) are of families that
methods may draw on, so they count as seen."""


def drift_task(group: str) -> str:
    return HELD_OUT_TEXTS if group == "held_out" else f"{group}_held_out"
