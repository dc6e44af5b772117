"""This rank's parts of the fp32 masters that DeepSpeed shards, as ordinary flat tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.contract import Method
from harness.models.adapters import Wrapped
from harness.training.masters import Masters


@dataclass(frozen=True)
class Span:
    """The part of a flattened parameter that this rank holds."""

    start: int
    stop: int
    held: int
    """Number of elements held, including padding after the parameter's end."""

    def of(self, whole: Tensor) -> Tensor:
        """Return this part of a whole tensor, flat, padded with zeros."""
        part = whole.detach().flatten()[self.start : self.stop]
        return nn.functional.pad(part, (0, self.held - part.numel()))


class Shards(Masters):
    """This rank's parts of the fp32 masters: flat views of DeepSpeed's own tensors, by the model's names."""

    def __init__(self, wrapped: Wrapped, optimizer: Any, all_reduce: Callable[[float], float]):
        """Start the masters at the base's own fp32 values, not at the model's rounded ones; `all_reduce` sums over ranks."""
        self.wrapped = wrapped
        self._optimizer = optimizer
        self._all_reduce = all_reduce
        named = {name: p for name, p in wrapped.model.named_parameters() if p.requires_grad}
        self.parameters = list(named.values())
        # Only stage 3 cuts the parameters themselves; DeepSpeed marks those with an id.
        self.stage3 = all(hasattr(p, "ds_id") for p in self.parameters)
        self.values = {}
        self.spans = {}
        for name, parameter in named.items():
            span, value = self._held(parameter)
            self.spans[name] = span
            self.values[name] = value.detach().requires_grad_()
            plain = wrapped.names.get(name)
            if plain is not None:
                self.values[name].data.copy_(span.of(wrapped.start[plain]))
        self._plain = {wrapped.names[name]: name for name in named if name in wrapped.names}
        self.refresh()

    @property
    def flats(self) -> list[Tensor]:
        """The flat tensors that DeepSpeed's inner optimizer updates."""
        if self.stage3:
            return list(self._optimizer.fp32_partitioned_groups_flat)
        return list(self._optimizer.single_partition_of_fp32_groups)

    def _held(self, parameter: Any) -> tuple[Span, Tensor]:
        """Return the span of a parameter that this rank holds, and a view of its master."""
        # Private names of DeepSpeed, read against the version in constraints.txt: it offers no
        # public view of a shard.
        if self.stage3:
            value, _ = self._optimizer._get_fp32_opt_state_partition(parameter, False)
            start = self._optimizer._get_param_partition_rank(parameter) * value.numel()
            return Span(start, min(start + value.numel(), parameter.ds_numel), value.numel()), value
        mapping = parameter._hp_mapping

        # Another rank holds all of this parameter.
        if mapping is None:
            return Span(0, 0, 0), torch.zeros(0)
        address = mapping.lp_fragment_address
        return Span(address.start, address.start + address.numel, address.numel), mapping.hp_fragment

    def _gradient(self, parameter: Any) -> Tensor | None:
        """Return this rank's part of a parameter's gradient, as a view of DeepSpeed's own tensor."""
        if self.stage3:
            return self._optimizer._get_fp32_grad_state_partition(parameter, False)[0]
        mapping = parameter._hp_mapping
        return None if mapping is None else mapping.get_lp_grad_fragment(parameter._index_in_param_group)

    def take_gradients(self) -> None:
        """Take this rank's gradients from DeepSpeed, once per step, after its last backward pass."""
        for value, parameter in zip(self.tensors, self.parameters, strict=True):
            gradient = self._gradient(parameter)
            value.grad = None if gradient is None else gradient.detach().flatten().float()

    def give_gradients(self) -> None:
        """Copy the present gradients back to DeepSpeed, where they do not share its memory."""
        for value, parameter in zip(self.tensors, self.parameters, strict=True):
            gradient = self._gradient(parameter)
            if gradient is None or value.grad is None:
                continue
            # In stage 2 with offloading the gradient is a copy, elsewhere the same memory.
            if gradient.data_ptr() != value.grad.data_ptr():
                gradient.copy_(value.grad.view_as(gradient))

    @torch.no_grad()
    def clip(self, limit: float) -> float:
        # In double, and over all ranks: every rank must clip by the same norm, or the shards would
        # part.
        gradients = [value.grad for value in self.tensors if value.grad is not None and value.grad.numel()]
        squares = sum(float(gradient.double().square().sum()) for gradient in gradients)
        norm = self._all_reduce(squares) ** 0.5
        self.scale_gradients(min(1.0, limit / (norm + 1e-6)))
        return norm

    def publish(self) -> None:
        """Do nothing: DeepSpeed copies the masters into the model in its step."""

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the masters into the model, outside a step."""
        if not self.stage3:
            self._optimizer.update_lp_params()
            return
        from deepspeed import zero
        from deepspeed.utils import safe_get_full_fp32_param

        for parameter in self.parameters:
            whole: Any = safe_get_full_fp32_param(parameter)
            with zero.GatheredParameters([parameter], modifier_rank=0):
                parameter.data.copy_(whole)

    @torch.no_grad()
    def gathered(self, keep: bool) -> dict[str, Tensor]:
        """Return every trained parameter in full, on the CPU, gathered one after the other; empty unless `keep`."""
        from deepspeed.utils import safe_get_full_fp32_param

        values = {}
        for name, parameter in zip(self.values, self.parameters, strict=True):
            whole: Any = safe_get_full_fp32_param(parameter)
            if keep:
                values[name] = whole.to("cpu", copy=True)
        return values

    def whole(self) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_fp32_param

        values = {}
        for name, parameter in zip(self.values, self.parameters, strict=True):
            whole: Any = safe_get_full_fp32_param(parameter)
            values[name] = whole.detach().clone().requires_grad_()
        return values

    def take_whole(self, whole: dict[str, Tensor]) -> None:
        for name, value in self.values.items():
            gradient = whole[name].grad
            if gradient is None:
                continue
            part = self.spans[name].of(gradient).to(value.device)
            value.grad = part if value.grad is None else value.grad.add_(part)

    def part(self, plain: str, tensor: Tensor) -> Tensor:
        name = self._plain.get(plain)
        # Returned unchanged: what is not trained, or was cut already.
        if name is None or tensor.shape != self.wrapped.start[plain].shape:
            return tensor
        return self.spans[name].of(tensor).to(self.values[name].device)

    def cut(self, method: Method) -> None:
        """Cut what a method prepared for each weight (tensors under the weight's name) to this rank's part."""
        state = method.state()
        # What a method prepared is per weight and whole; one that was cut already (after a resume)
        # stays.
        parts = {}
        for key, tensor in state.items():
            plain = key.rpartition("/")[2]
            parts[key] = self.part(plain, tensor) if plain in self._plain else tensor
        if any(parts[key] is not state[key] for key in state):
            method.restore(parts)
