"""fp32 master weights, which the optimizer updates while the model computes in bf16.

At lr 5e-6 a pure bf16 AdamW leaves most weights bit-identical, and what then looks like retention is rounding; so whatever
trains has an fp32 master, in every method alike.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn

from harness.contract import Weights
from harness.models.adapters import Wrapped

Pull = Callable[[str, Tensor, Tensor], Tensor | None]
"""Called with a weight's plain name, its present value and the base's; returns a gradient, or None where it pulls nothing."""


class Masters:
    """The trained parameters of a model, their fp32 masters and gradients."""

    @cached_property
    def _began(self) -> dict[str, Tensor]:
        """Values that `start_of` has returned so far, by plain name."""
        return {}

    def __init__(self, wrapped: Wrapped):
        """Start the masters at the base's own fp32 values, and added parameters at their initial values."""
        self.wrapped = wrapped
        # Only what requires a gradient: a frozen weight needs no fp32 copy, which is what makes
        # adapters light.
        named = {name: p for name, p in wrapped.model.named_parameters() if p.requires_grad}
        self.parameters: list[nn.Parameter] = list(named.values())
        self.values: dict[str, Tensor] = {}
        for name, parameter in named.items():
            # A weight of the base starts at the base's fp32 value, not at the model's, which may
            # have been rounded to bf16.
            plain = wrapped.names.get(name)
            source = parameter.detach() if plain is None else wrapped.start[plain]
            self.values[name] = source.to(parameter.device, torch.float32, copy=True).requires_grad_()

    @property
    def tensors(self) -> list[Tensor]:
        return list(self.values.values())

    @torch.no_grad()
    def take_gradients(self) -> None:
        """Add the model's gradients to the masters' (in fp32, so that micro-batches sum exactly) and clear them."""
        for master, parameter in zip(self.values.values(), self.parameters, strict=True):
            if parameter.grad is None:
                continue
            master.grad = parameter.grad.float() if master.grad is None else master.grad.add_(parameter.grad)
            parameter.grad = None

    @torch.no_grad()
    def scale_gradients(self, factor: float) -> None:
        """Multiply every gradient by `factor`."""
        for tensor in self.tensors:
            if tensor.grad is not None:
                tensor.grad.mul_(factor)

    def clip(self, limit: float) -> float:
        """Return the norm of all gradients together, and scale them so that it is at most `limit`."""
        return float(torch.nn.utils.clip_grad_norm_(self.tensors, limit, foreach=True))

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters into the model."""
        for parameter, master in zip(self.parameters, self.tensors, strict=True):
            parameter.copy_(master)

    @property
    def gradients(self) -> Weights:
        """The present gradients, by parameter; parameters without one are left out."""
        return {name: tensor.grad for name, tensor in self.values.items() if tensor.grad is not None}

    def step_pulls(self, pull: Pull, rate: float) -> None:
        """Move the masters by -rate * pull, leaving their gradients as they are."""
        # The step's own gradients are set aside, since `add_pulls` writes to the same place.
        gradients = [tensor.grad for tensor in self.tensors]
        for tensor in self.tensors:
            tensor.grad = None
        self.add_pulls(pull)
        for tensor, gradient in zip(self.tensors, gradients, strict=True):
            if tensor.grad is not None:
                tensor.data.sub_(tensor.grad, alpha=rate)
            tensor.grad = gradient

    def add_pulls(self, pull: Pull) -> None:
        """Add `pull(name, theta, start)` to the gradients of what trains now, theta being effective weights under plain names.

        For a folded weight W(A, B, ...) the pull G on W becomes gradients of its factors by the chain rule. What is added and
        not folded has no place in the base, and is not pulled.
        """
        for (name, master), parameter in zip(self.values.items(), self.parameters, strict=True):
            # What a method added has no base value to be pulled to, and what rests is not moved.
            plain = self.wrapped.names.get(name)
            if plain is None or plain.startswith("added.") or not parameter.requires_grad:
                continue
            if (gradient := pull(plain, master.detach(), self.start_of(plain, master.device))) is not None:
                master.grad = gradient if master.grad is None else master.grad.add_(gradient)
        if not self.wrapped.folds:
            return

        # A folded weight (base plus low-rank factors) has no master of its own: the pull on it is
        # sent to the factors by the chain rule.
        whole = self.whole()
        for plain, (fold, factors) in self.wrapped.folded(whole).items():
            began = self.start_of(plain, factors[0].device)
            with torch.enable_grad():
                weight = fold(began, factors)
            if (gradient := pull(plain, weight.detach(), began)) is not None:
                weight.backward(gradient)
        self.take_whole(whole)

    def start_of(self, plain: str, device: torch.device) -> Tensor:
        """Return the base's own value of this process's part of a weight.

        It stays on the device: sending it there at each step would cost a pull more device-seconds than all its arithmetic.
        """
        # Kept on the device: pulls ask for it in every step.
        if plain not in self._began:
            self._began[plain] = self.part(plain, self.wrapped.start[plain]).to(device)
        return self._began[plain]

    def forget_start(self) -> None:
        """Drop what `start_of` keeps on the device; it is copied there again when it is needed."""
        self._began.clear()

    def part(self, plain: str, tensor: Tensor) -> Tensor:
        """Return this process's part of a tensor that has the shape of a weight; here all of it."""
        return tensor

    def whole(self) -> dict[str, Tensor]:
        """Return every trained parameter in full, as a copy with its own gradient where this process holds only a part."""
        return self.values

    def take_whole(self, whole: dict[str, Tensor]) -> None:
        """Add the gradients of `whole` to those of this process's parts."""

    def effective(self) -> Weights:
        """Return the plain fp32 weights of the model as trained so far, and what is added to them."""
        return self.wrapped.effective(self.whole())
