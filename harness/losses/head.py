"""Separate a model's head from its blocks, so that it can run at a piece of the places at a time.

Logits (S, V) of all supervised places, whole in fp32 several times over, are most of what training with a large vocabulary
holds. A head works on each place by itself: it reads that place's features (H,) and returns that place's logits. Some
architectures change what it returns afterwards: Cohere multiplies it, Granite divides it, Gemma-2 caps it. Which of these a
model does is tried on a small batch. If none of them gives the model's own logits bit for bit, the head is not separated: the
whole logits then take the place of the features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from harness.contract import Batch
from harness.models.flops import uncounted
from harness.models.forward import device_of, features_at, logits_at

SCALES = (1.0, 1000.0)
"""Standard deviations of the features at the places that are tried: a model's own, and so large that logits reach every cap."""


class Form(StrEnum):
    """How an architecture changes what its head returns."""

    UNCHANGED = "unchanged"
    TIMES = "times"
    OVER = "over"
    CAPPED = "capped"


@dataclass(frozen=True)
class Finish:
    """The change from what the head returns, x, to the logits: x, x c, x / c, or c tanh(x / c)."""

    form: Form = Form.UNCHANGED
    number: float = 1.0

    def __call__(self, returned: Tensor) -> Tensor:
        match self.form:
            case Form.UNCHANGED:
                return returned
            case Form.TIMES:
                return returned * self.number
            case Form.OVER:
                return returned / self.number
            case Form.CAPPED:
                return torch.tanh(returned / self.number) * self.number


@dataclass(frozen=True)
class Head:
    """What turns features at places into logits. `module` is None where the head could not be separated."""

    module: nn.Module | None = None
    finish: Finish = Finish()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The head's own parameters that train now; empty where it is not separated, since they are inside the model then."""
        if self.module is None:
            return []
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    def features(self, model: Any, batch: Batch) -> Tensor:
        """Run the model up to its head; return the features `(S, H)`, or the logits `(S, V)` where the head is not separated.

        `model`: the model of this head, wrapped or not.
        """
        return logits_at(model, batch) if self.module is None else features_at(model, batch)

    def returned(self, features: Tensor) -> Tensor:
        """Return `(P, V)` what the head returns at P places, in the model's precision, before anything is done to it."""
        return features if self.module is None else self.module(features.unsqueeze(0))[0]

    def logits(self, returned: Tensor) -> Tensor:
        """Return `(P, V)` fp32 logits from what the head returned."""
        return self.finish(returned).float()

    def logits_of(self, features: Tensor) -> Tensor:
        """Return `(P, V)` fp32 logits at the places of these features."""
        return self.logits(self.returned(features))


@torch.no_grad()
def separate_head(model: Any) -> Head:
    """Return the model's head, separated if it gives the model's own logits bit for bit at the places of a trial."""
    # Dropout would make two runs of the head differ.
    training = model.training
    model.eval()
    try:
        with uncounted():
            trial = _try_head(model)
        module = model.get_output_embeddings()
        alone = torch.equal(module(trial.features), trial.returned)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError):
        # A head that is called in another way than all known ones is not separated; training as a whole still works.
        return Head()
    finally:
        model.train(training)

    if alone:
        # The cheapest form first; what none of them gives back is not separated.
        for finish in _finishes(model):
            if torch.equal(finish(trial.returned)[0].float(), trial.logits):
                return Head(module, finish)
    return Head()


@dataclass(frozen=True)
class _Trial:
    """One call of a head inside its model: it read `(1, S, H)` and returned `(1, S, V)`; the model's logits are `(S, V)`."""

    features: Tensor
    returned: Tensor
    logits: Tensor


def _try_head(model: Any) -> _Trial:
    """Run the model over a token for each of `SCALES`, its head over random features of these instead of the model's own."""
    calls: list[tuple[Tensor, Tensor]] = []

    def replace_features(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # Random features at two scales, since a cap shows only where logits are large.
        drawn = torch.randn(args[0].shape[1:], generator=torch.Generator().manual_seed(0))
        scales = torch.ones(len(drawn), 1)
        scales[-len(SCALES) :, 0] = torch.tensor(SCALES)
        return ((scales * drawn)[None].to(args[0]), *args[1:])

    def note(_: nn.Module, args: tuple[Tensor, ...], returned: Tensor) -> None:
        calls.append((args[0], returned))

    module = model.get_output_embeddings()
    handles = [module.register_forward_pre_hook(replace_features), module.register_forward_hook(note)]
    try:
        tokens = torch.arange(1, 1 + len(SCALES), device=device_of(model))[None]
        logits = model(input_ids=tokens, use_cache=False).logits[0].float()
    finally:
        for handle in handles:
            handle.remove()
    ((features, returned),) = calls
    return _Trial(features, returned, logits)


def _finishes(model: Any) -> Iterator[Finish]:
    """Yield what may be done to what the head returns: nothing, or something with a number of the configuration."""
    yield Finish()
    # The numbers that an architecture scales or caps its logits by stand in its configuration.
    numbers = {value for value in vars(model.config.get_text_config()).values() if _is_number(value)}
    for number in sorted(numbers):
        for form in (Form.TIMES, Form.OVER, Form.CAPPED):
            yield Finish(form, float(number))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value not in (0, 1)
