"""One run in several processes that each hold a part of it: DeepSpeed's ZeRO-2 and ZeRO-3.

DeepSpeed shards and updates gradients, fp32 masters and moments (ZeRO-3: the model too). Lethe's scaling, pulls and clipping
act on this rank's shards: after the last backward pass of a step, its shards of masters and gradients are ordinary flat fp32
tensors, on which these (elementwise) operations work as they do on whole tensors.
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
    """Number of elements held, including padding after the parameter's end."""

    def of(self, whole: Tensor) -> Tensor:
        """Return this part of a whole tensor, flat, padded with zeros."""
        part = whole.detach().flatten()[self.start : self.stop]
        return nn.functional.pad(part, (0, self.held - part.numel()))


class Zero(Together):
    """One rank of a run whose optimizer DeepSpeed shards, as a DeepSpeed configuration says."""

    sharded = True

    def __init__(self, rank: int, size: int, meeting: tuple[str, int], device: torch.device, config: dict[str, Any]):
        super().__init__(rank, size, meeting, device)
        self.config = config
        self.deep: Any = None
        self.forwards_alone = config["zero_optimization"]["stage"] < 3
        # DeepSpeed reads these from the environment. Local ones count the devices that this process sees.
        os.environ["RANK"] = str(rank)
        os.environ["WORLD_SIZE"] = str(size)
        os.environ["LOCAL_RANK"] = str(device.index or 0)
        os.environ["LOCAL_SIZE"] = str(max(1, torch.cuda.device_count()))
        os.environ["DS_ACCELERATOR"] = device.type

    def all_reduce(self, part: float) -> float:
        return sum(self.all_gather(part))

    def build(self, wrapped: Wrapped, weight_decay: float, methods: Sequence[Method]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about DeepSpeed's own use of torch
            import deepspeed

            # Compiling this operator takes minutes, and only CPUs use it.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
            logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
            trained = [p for p in wrapped.model.parameters() if p.requires_grad]
            inner = torch.optim.AdamW(trained, lr=0.0, weight_decay=weight_decay, fused=True)
            config = self._fitting(sum(p.numel() for p in trained))
            if self.deep is not None:
                self.deep.destroy()  # its buffers are as large as the model
            self.deep = deepspeed.initialize(model=wrapped.model, optimizer=inner, config=config)[0]
        self.optimizer = self.deep.optimizer
        self.inner = self.deep.optimizer.optimizer
        self._shards = Shards(wrapped, self.deep.optimizer, self.all_reduce)
        self.masters = self._shards
        for method in methods:
            self._shards.cut(method)
        self.begin()

    def _fitting(self, parameters: int) -> dict[str, Any]:
        """Return the configuration with a reduction bucket no larger than what is trained.

        DeepSpeed allocates the whole bucket: 2 GB by default.
        """
        zero = {"reduce_bucket_size": min(500_000_000, parameters)} | self.config["zero_optimization"]
        return self.config | {"zero_optimization": zero}

    def begin(self) -> None:
        self.inner.state.clear()

    def aside(self) -> AbstractContextManager[None]:
        """Move nothing: DeepSpeed keeps its tensors in place, and sharding leaves enough memory."""
        return nullcontext()

    def batches(self, run: ModelInTraining, step: Step) -> Iterator[tuple[Batch, bool, bool]]:
        """Yield equally many micro-batches on every rank, since all ranks take part in each pass.

        A rank with fewer repeats one that does not count.
        """
        shares = self.split_step(step)
        passes = max(len(run.groups(share)) for share in shares)
        batches = list(run.batches(shares[self.rank]))
        filler = batches[-1] if batches else next(run.batches(shares[0][:1]))
        for index in range(passes):
            counts = index < len(batches)
            batch = batches[index] if counts else filler
            yield batch, counts, index == passes - 1

    def features(self, run: ModelInTraining, batch: Batch) -> Tensor:
        return run.features(self.deep, batch)

    def gathered(self, parameters: Sequence[nn.Parameter]) -> AbstractContextManager[None]:
        if not self._shards.stage3:
            return nullcontext()
        from deepspeed import zero

        return zero.GatheredParameters(parameters)

    def backward(self, loss: Tensor, last: bool) -> None:
        self.deep.set_gradient_accumulation_boundary(last)
        # DeepSpeed takes the mean over ranks, Lethe the sum.
        self.deep.backward(loss * self.size, scale_wrt_gas=False)
        if last:
            self.masters.take_gradients()

    def reduce(self) -> None:
        """Do nothing: DeepSpeed sums over ranks in the backward pass."""

    def step(self) -> None:
        self._shards.give_gradients()
        self.deep.step()

    def forget(self) -> None:
        for shard in self.masters.tensors:
            shard.grad = None

    def gather(self) -> Callable[[], Weights]:
        values = self._shards.gathered(keep=self.rank == 0)
        if self.rank > 0:
            return dict
        return lambda: self.masters.wrapped.effective(values)

    def save(self, folder: Path, methods: Sequence[Method], record: dict[str, Any]) -> None:
        if self.rank == 0:
            with replacing(folder) as fresh:
                write_progress(fresh, record)
                self._save_part(fresh, methods)
        else:
            self._save_part(None, methods)

    def _save_part(self, folder: Path | None, methods: Sequence[Method]) -> None:
        """Write this rank's file into rank 0's folder; rank 0 waits for all."""
        folder = Path(self.broadcast(str(folder)))
        moments = {index: self.inner.state[flat] for index, flat in enumerate(self._shards.flats)}
        write_state(folder / self.state, self.masters, moments, methods)
        self.broadcast(None)

    @property
    def state(self) -> str:
        return f"state-{self.rank}.safetensors"

    def restore(self, folder: Path) -> None:
        moments = restore_masters(folder / self.state, self.masters)
        for index, flat in enumerate(self._shards.flats):
            state = moments.get(index, {})
            self.inner.state[flat] = {name: tensor.to(flat.device) for name, tensor in state.items()}
        self._shards.refresh()


class Shards(Masters):
    """This rank's parts of the fp32 masters: flat views of DeepSpeed's own tensors, by the model's names."""

    def __init__(self, wrapped: Wrapped, optimizer: Any, all_reduce: Callable[[float], float]):
        """Start the masters at the base's own fp32 values, not at the model's rounded ones; `all_reduce` sums over ranks."""
        self.wrapped = wrapped
        self._optimizer = optimizer
        self._all_reduce = all_reduce
        named = {name: p for name, p in wrapped.model.named_parameters() if p.requires_grad}
        self.parameters = list(named.values())
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
        if self.stage3:
            value, _ = self._optimizer._get_fp32_opt_state_partition(parameter, False)
            start = self._optimizer._get_param_partition_rank(parameter) * value.numel()
            return Span(start, min(start + value.numel(), parameter.ds_numel), value.numel()), value
        mapping = parameter._hp_mapping
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
            if gradient.data_ptr() != value.grad.data_ptr():
                gradient.copy_(value.grad.view_as(gradient))

    @torch.no_grad()
    def clip(self, limit: float) -> float:
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
        """Let a method keep only this rank's part of what it prepared for each weight, under that weight's name."""
        state = method.state()
        parts = {}
        for key, tensor in state.items():
            plain = key.rpartition("/")[2]
            parts[key] = self.part(plain, tensor) if plain in self._plain else tensor
        if any(parts[key] is not state[key] for key in state):
            method.restore(parts)
