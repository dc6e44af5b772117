"""One run in several processes that each hold a part of it: DeepSpeed's ZeRO-2 and ZeRO-3.

DeepSpeed shards gradients, fp32 masters and moments (ZeRO-3: the model too) and moves them; the house's own rules act on what a
rank holds. After the last backward pass of a step its shards of masters and gradients are ordinary flat fp32 tensors, on which
scaling, pulls (elementwise) and clipping work as they do on whole ones.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.contract import Batch, Method, Step, Weights
from harness.models.adapters import Wrapped
from harness.store.files import replacing
from harness.training.checkpoint import restore_masters, write_progress, write_state
from harness.training.data_parallel import Together
from harness.training.engine import ModelInTraining
from harness.training.masters import Masters


@dataclass(frozen=True)
class Span:
    """The part of a flattened parameter that this rank holds."""

    start: int
    stop: int
    held: int
    """Elements held, padding behind the parameter's end included."""

    def of(self, whole: Tensor) -> Tensor:
        """This part of a whole tensor, flat, padded with zeros."""
        part = whole.detach().flatten()[self.start : self.stop]
        return nn.functional.pad(part, (0, self.held - part.numel()))


class Zero(Together):
    """One rank of a run whose optimizer DeepSpeed shards, by a configuration of DeepSpeed's."""

    sharded = True

    def __init__(self, rank: int, size: int, meeting: tuple[str, int], device: torch.device, config: dict[str, Any]):
        super().__init__(rank, size, meeting, device)
        self.config = config
        self.deep: Any = None
        self.forwards_alone = config["zero_optimization"]["stage"] < 3
        names = {"RANK": rank, "WORLD_SIZE": size}  # DeepSpeed asks the environment
        names |= {"LOCAL_RANK": device.index or 0, "LOCAL_SIZE": max(1, torch.cuda.device_count())}  # of the devices seen here
        os.environ |= {name: str(value) for name, value in names.items()} | {"DS_ACCELERATOR": device.type}

    def total(self, part: float) -> float:
        return sum(self.exchange(part))

    def build(self, wrapped: Wrapped, weight_decay: float, methods: Sequence[Method]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of DeepSpeed's own use of torch
            import deepspeed

            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # compiled for minutes, for CPUs alone
            logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
            trained = [p for p in wrapped.model.parameters() if p.requires_grad]
            inner = torch.optim.AdamW(trained, lr=0.0, weight_decay=weight_decay, fused=True)
            config = self._fitting(sum(p.numel() for p in trained))
            if self.deep is not None:
                self.deep.destroy()  # its buffers are the size of the model's
            self.deep = deepspeed.initialize(model=wrapped.model, optimizer=inner, config=config)[0]
        self.optimizer, self.inner = self.deep.optimizer, self.deep.optimizer.optimizer
        self.masters = self._shards = Shards(wrapped, self.deep.optimizer, self.total)
        for method in methods:
            self._shards.cut(method)
        self.begin()

    def _fitting(self, parameters: int) -> dict[str, Any]:
        """The configuration, with a reduction bucket no larger than what is trained: it is held in full, 2 GB by default."""
        zero = {"reduce_bucket_size": min(500_000_000, parameters)} | self.config["zero_optimization"]
        return self.config | {"zero_optimization": zero}

    def begin(self) -> None:
        self.inner.state.clear()

    def aside(self) -> AbstractContextManager[None]:
        """DeepSpeed keeps its tensors where they are; sharding leaves the room."""
        return nullcontext()

    def batches(self, run: ModelInTraining, step: Step) -> Iterator[tuple[Batch, bool, bool]]:
        """As many on every rank, since all of them take part in each pass: a rank with fewer runs one again for nothing."""
        shares = self.deal(step)
        wanted = max(len(run.groups(share)) for share in shares)
        own = list(run.batches(shares[self.rank]))
        filler = own[-1] if own else next(run.batches(shares[0][:1]))
        for place in range(wanted):
            counts = place < len(own)
            yield own[place] if counts else filler, counts, place == wanted - 1

    def nll(self, run: ModelInTraining, batch: Batch) -> tuple[Tensor, Tensor]:
        return run.nll(self.deep, batch)

    def backward(self, loss: Tensor, last: bool) -> None:
        self.deep.set_gradient_accumulation_boundary(last)
        self.deep.backward(loss * self.size, scale_wrt_gas=False)  # it takes the mean over ranks; we sum
        if last:
            self.masters.take_gradients()

    def reduce(self) -> None:
        """DeepSpeed did, in the backward pass."""

    def step(self) -> None:
        self._shards.give_gradients()
        self.deep.step()

    def forget(self) -> None:
        for shard in self.masters.tensors:
            shard.grad = None

    def gather(self) -> Callable[[], Weights]:
        values = self._shards.gathered(keep=self.rank == 0)
        return (lambda: self.masters.wrapped.effective(values)) if self.rank == 0 else dict

    def save(self, folder: Path, methods: Sequence[Method], record: dict[str, Any]) -> None:
        if self.rank == 0:
            with replacing(folder) as fresh:
                write_progress(fresh, record)
                self._save_part(fresh, methods)
        else:
            self._save_part(None, methods)

    def _save_part(self, folder: Path | None, methods: Sequence[Method]) -> None:
        """Every rank's file into the first one's folder, which waits for all."""
        folder = Path(self.agreed(str(folder)))
        moments = {i: self.inner.state[flat] for i, flat in enumerate(self._shards.flats)}
        write_state(folder / self.state, self.masters, moments, methods)
        self.agreed(None)

    @property
    def state(self) -> str:
        return f"state-{self.rank}.safetensors"

    def restore(self, folder: Path) -> None:
        moments = restore_masters(folder / self.state, self.masters)
        for i, flat in enumerate(self._shards.flats):
            self.inner.state[flat] = {name: t.to(flat.device) for name, t in moments.get(i, {}).items()}
        self._shards.refresh()


class Shards(Masters):
    """This rank's parts of the fp32 masters: views of DeepSpeed's own, by the model's names, flat."""

    def __init__(self, wrapped: Wrapped, optimizer: Any, total: Callable[[float], float]):
        """Masters begin at the base's own fp32 values, not at the model's rounded ones; `total` sums over ranks."""
        self.wrapped, self._optimizer, self._total = wrapped, optimizer, total
        named = {name: p for name, p in wrapped.model.named_parameters() if p.requires_grad}
        self.parameters = list(named.values())
        self.stage3 = all(hasattr(p, "ds_id") for p in self.parameters)
        self.values, self.spans = {}, {}
        for name, parameter in named.items():
            self.spans[name], value = self._held(parameter)
            self.values[name] = value.detach().requires_grad_()
            if (plain := wrapped.names.get(name)) is not None:
                self.values[name].data.copy_(self.spans[name].of(wrapped.start[plain]))
        self._plain = {wrapped.names[name]: name for name in named if name in wrapped.names}
        self.refresh()

    @property
    def flats(self) -> list[Tensor]:
        """What DeepSpeed's inner optimizer moves."""
        own = self._optimizer
        return list(own.fp32_partitioned_groups_flat if self.stage3 else own.single_partition_of_fp32_groups)

    def _held(self, parameter: Any) -> tuple[Span, Tensor]:
        """What of a parameter's master this rank holds, as a view."""
        if self.stage3:
            value, _ = self._optimizer._get_fp32_opt_state_partition(parameter, False)
            start = self._optimizer._get_param_partition_rank(parameter) * value.numel()
            return Span(start, min(start + value.numel(), parameter.ds_numel), value.numel()), value
        mapping = parameter._hp_mapping
        if mapping is None:
            return Span(0, 0, 0), torch.zeros(0)
        where = mapping.lp_fragment_address
        return Span(where.start, where.start + where.numel, where.numel), mapping.hp_fragment

    def _gradient(self, parameter: Any) -> Tensor | None:
        """This rank's part of a parameter's gradient, as a view of DeepSpeed's own."""
        if self.stage3:
            return self._optimizer._get_fp32_grad_state_partition(parameter, False)[0]
        mapping = parameter._hp_mapping
        return None if mapping is None else mapping.get_lp_grad_fragment(parameter._index_in_param_group)

    def take_gradients(self) -> None:
        """Once a step, after its last backward pass."""
        for value, parameter in zip(self.tensors, self.parameters, strict=True):
            gradient = self._gradient(parameter)
            value.grad = None if gradient is None else gradient.detach().flatten().float()

    def give_gradients(self) -> None:
        """Give DeepSpeed the gradients as they are now, where they are not its own."""
        for value, parameter in zip(self.tensors, self.parameters, strict=True):
            gradient = self._gradient(parameter)
            if gradient is not None and value.grad is not None and gradient.data_ptr() != value.grad.data_ptr():
                gradient.copy_(value.grad.view_as(gradient))

    @torch.no_grad()
    def clip(self, limit: float) -> float:
        gradients = [value.grad for value in self.tensors if value.grad is not None and value.grad.numel()]
        norm = self._total(sum(float(g.double().square().sum()) for g in gradients)) ** 0.5
        self.scale_gradients(min(1.0, limit / (norm + 1e-6)))
        return norm

    def publish(self) -> None:
        """DeepSpeed does, in its step."""

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
        """Every trained parameter in full, on the CPU, one after the other; nothing where it is not kept."""
        from deepspeed.utils import safe_get_full_fp32_param

        found = {}
        for name, parameter in zip(self.values, self.parameters, strict=True):
            whole: Any = safe_get_full_fp32_param(parameter)
            if keep:
                found[name] = whole.to("cpu", copy=True)
        return found

    def whole(self) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_fp32_param

        wholes: list[Any] = list(map(safe_get_full_fp32_param, self.parameters))
        return {name: whole.detach().clone().requires_grad_() for name, whole in zip(self.values, wholes, strict=True)}

    def take_whole(self, whole: dict[str, Tensor]) -> None:
        for name, value in self.values.items():
            if (gradient := whole[name].grad) is not None:
                part = self.spans[name].of(gradient).to(value.device)
                value.grad = part if value.grad is None else value.grad.add_(part)

    def part(self, plain: str, tensor: Tensor) -> Tensor:
        name = self._plain.get(plain)
        if name is None or tensor.shape != self.wrapped.start[plain].shape:  # not trained itself, or cut already
            return tensor
        return self.spans[name].of(tensor).to(self.values[name].device)

    def cut(self, method: Method) -> None:
        """Let a method keep only this rank's part of what it prepared for each weight, under that weight's name."""
        state = method.state()
        parts = {
            key: self.part(key.rpartition("/")[2], t) if key.rpartition("/")[2] in self._plain else t
            for key, t in state.items()
        }
        if any(parts[key] is not state[key] for key in state):
            method.restore(parts)
