"""fp32 master weights: what the optimizer moves, while the model computes in bf16.

At lr 5e-6 a pure bf16 AdamW leaves most weights bit-identical, and what then looks like retention is rounding; so whatever
trains has an fp32 master, in every method alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.contract import Weights
from harness.model import adapted_modules, effective_weights, lora_delta, lora_factors


class Masters:
    """The trained parameters of a model, their fp32 masters and gradients."""

    def __init__(self, model: nn.Module, start: Weights):
        """Masters begin at the base's own fp32 values; parameters that a wrapper added begin at theirs."""
        self.model = model
        self.start = start
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.parameters: list[nn.Parameter] = list(named.values())
        self.values: dict[str, Tensor] = {}
        for name, parameter in named.items():
            source = start.get(name, parameter.detach())
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
            gradient = parameter.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            parameter.grad = None

    @torch.no_grad()
    def scale_gradients(self, factor: float) -> None:
        """Multiply every gradient by the step's normaliser."""
        for tensor in self.tensors:
            if tensor.grad is not None:
                tensor.grad.mul_(factor)

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters into the model."""
        for parameter, master in zip(self.parameters, self.tensors, strict=True):
            parameter.copy_(master)

    @property
    def gradients(self) -> Weights:
        """The present gradients, by parameter; those without one are left out."""
        return {name: tensor.grad for name, tensor in self.values.items() if tensor.grad is not None}

    def step_pulls(self, pull, rate: float) -> None:
        """Move the masters by -rate * pull, leaving their gradients as they are."""
        gradients = [tensor.grad for tensor in self.tensors]
        for tensor in self.tensors:
            tensor.grad = None
        self.add_pulls(pull)
        for tensor, gradient in zip(self.tensors, gradients, strict=True):
            if tensor.grad is not None:
                tensor.data.sub_(tensor.grad, alpha=rate)
            tensor.grad = gradient

    def add_pulls(self, pull) -> None:
        """Add `pull(name, theta, start)` to the gradients, theta being effective weights under plain names.

        For an adapter the pull G on W + s B A becomes gradients of A and B by the chain rule.
        """
        for name, master in self.values.items():
            if name in self.start and (gradient := pull(name, master.detach(), self._start(name, master))) is not None:
                master.grad = gradient if master.grad is None else master.grad + gradient
        names = {id(p): name for name, p in zip(self.values, self.parameters, strict=True)}
        for name, layer in adapted_modules(self.model).items():
            factors = [self.values[names[id(p)]] for p in lora_factors(layer)]
            start = self._start(name, factors[0])
            with torch.enable_grad():
                delta = lora_delta(layer, (factors[0], factors[1]))
            if (gradient := pull(name, start + delta.detach(), start)) is not None:
                delta.backward(gradient)

    def _start(self, name: str, like: Tensor) -> Tensor:
        return self.start[name].to(like.device)

    def effective(self) -> Weights:
        """Plain fp32 weights of the model as trained so far."""
        return effective_weights(self.start, self.model, self.values)
