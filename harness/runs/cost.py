"""What the runs of a comparison will cost: FLOPs, seconds of training and of evaluation, memory. Nothing here trains.

Memory is given twice: what the micro-batches of this data need, and the worst case, micro-batches of the longest sequences,
supervised throughout. On a CPU both have beside them what a process holds anyhow (libraries, records, tokenizer), measured on
this process, the base's fp32 weights, which a GPU leaves to the host, and the matrix products that are kept compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from harness.contract import Example, Need
from harness.estimates.memory import Size, Sizer
from harness.estimates.ways import planned_way
from harness.models.device_memory import give_back_freed, held_memory
from harness.models.flops import Shape
from harness.models.short_documents import SHORT
from harness.recipes.recipe import parse_recipe
from harness.runs.timing import Scored
from harness.setup.material import Material
from harness.setup.specs import RunSpec, planned_run
from harness.training.data_parallel import split_step
from harness.training.run import PlannedRun

KERNELS = 1024
"""Matrix products that a CPU's library (oneDNN) keeps compiled, for each shape that it met."""
KERNEL_BYTES = {"bfloat16": 1.1e6, "float32": 0.1e6}
"""Bytes of one by precision: measured, docs/log.md."""
STEPS = 200
"""Optimizer steps of an epoch whose micro-batches are looked at, at most."""


@dataclass(frozen=True)
class Cost:
    """One run's price."""

    flops: float
    seconds: float
    """Of training, of all its devices together."""
    scoring: float | None
    """Seconds of its evaluations; None where they are not timed."""
    memory: float
    """Bytes on each device, for the micro-batches of this data."""
    worst: float
    """The same for micro-batches of the longest sequences, supervised throughout."""

    @property
    def all_seconds(self) -> float:
        """Seconds of training and of evaluation, where that is timed."""
        return self.seconds + (self.scoring or 0.0)


class Costs:
    """Prices the runs of one comparison; what runs have in common is computed once."""

    def __init__(self, material: Material):
        self.material = material
        plan = material.plan
        self.cuda = plan.device.startswith("cuda") or plan.gpu is not None
        self.process = 0.0 if self.cuda else process_bytes(material)
        self._sizers: dict[tuple[str, int | None], Sizer] = {}
        self._shapes: dict[tuple[int | None, bool], list[Shape]] = {}

    def cost_of(self, spec: RunSpec, pace: float, scored: Scored | None) -> Cost:
        """Price a run: its budget in FLOPs, device-seconds at `pace` seconds per FLOP, its evaluations, its memory."""
        scoring = scored.seconds(spec) if scored else None
        parameters = self.material.base.parameters
        # A model that nobody trains here is only loaded and scored: its fp32 weights beside the
        # process.
        if not spec.allowed or spec.tuned:
            memory = self.process + 4.0 * parameters
            return Cost(0.0, 0.0, scoring, memory, memory)
        run = planned_run(self.material, spec)
        flops = _flops_of(run, spec, pace)
        needed, worst = self._sizes(run, spec)

        # On a CPU models live in the process's own memory, which is counted with it; on a GPU the
        # host holds little.
        host = 0.0 if self.cuda else self.process + 4.0 * parameters + self._kernel_bytes(run, spec, flops)
        return Cost(flops, flops * pace, scoring, host + needed.bytes, host + worst.bytes)

    def _kernel_bytes(self, run: PlannedRun, spec: RunSpec, flops: float) -> float:
        """Return what compiled matrix products take: one for each width of a micro-batch, weight shape and direction."""
        sizer = self._sizers[spec.recipe, spec.training.pack_length]
        widths = float(KERNELS)
        if spec.meter != "seconds":
            # Of examples as they are: what methods make of them may cost a pass, or need a model.
            price, _ = run.step_price(list(run.data.domain[: run.batch_size]))
            widths = flops / price
        return min(KERNELS, 3 * sizer.products * widths) * KERNEL_BYTES[spec.training.precision]

    def _sizes(self, run: PlannedRun, spec: RunSpec) -> tuple[Size, Size]:
        """Return the sizes of a run for this data and in the worst case."""

        # Sizes and shapes are kept: many runs differ by their seed only.
        packed = spec.training.pack_length
        longest = max(map(len, self.material.training_data.domain))
        key = (spec.recipe, packed)
        if key not in self._sizers:
            device = "cuda" if self.cuda else "cpu"
            recipe = parse_recipe(spec.recipe)
            length = packed or longest
            training = spec.training
            path = self.material.base.path
            self._sizers[key] = Sizer(path, recipe, training.precision, length, device, training.optimizer)
        blends = any(Need.GENERAL_DATA in method.needs for method in run.methods)
        if (packed, blends) not in self._shapes:
            self._shapes[packed, blends] = shapes_of(run, self.material.plan.ranks, blends)

        # Short sequences attend without a fused kernel on a CPU, and keep the weights of attention.
        squares = not self.cuda and longest <= SHORT
        sizer = self._sizers[key]
        way = planned_way(self.material.plan)
        return sizer.size(way, self._shapes[packed, blends], squares), sizer.size(way, (), squares)


def _flops_of(run: PlannedRun, spec: RunSpec, pace: float) -> float:
    """Return a run's budget in FLOPs, whatever unit it is given in."""
    # Steps and tokens have no fixed price; the first step's price per step or token stands for all.
    if spec.meter == "flops":
        return spec.allowed
    if spec.meter == "seconds":
        return spec.allowed / pace
    price, tokens = run.step_price(next(run.steps()))
    return price * spec.allowed / (1 if spec.meter == "steps" else tokens)


def shapes_of(run: PlannedRun, ranks: int, general: bool) -> list[Shape]:
    """Return the shapes of the micro-batches of an epoch of the domain's examples, and with `general` of those too, each once.

    What methods do to the order or the mixture of examples is not asked for, since that may cost a pass over them.
    """
    shapes = []
    for examples in (run.data.domain, run.data.general) if general else (run.data.domain,):
        # A fixed order: the same plan must show the same cost each time.
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(examples), generator=generator).tolist()
        for first in range(0, min(len(order), STEPS * run.batch_size), run.batch_size):
            step = [examples[index] for index in order[first : first + run.batch_size]]
            shapes += _shapes_of_step(run, step, ranks)
    return list(dict.fromkeys(shapes))


def _shapes_of_step(run: PlannedRun, step: Sequence[Example], ranks: int) -> list[Shape]:
    """Return the shapes of one step's micro-batches, of all ranks."""
    shapes = []
    for share in split_step(step, ranks):
        shapes += [run.shape(group) for group in run.groups(share)]
    return shapes


def process_bytes(material: Material) -> float:
    """Return what this process holds beside models: libraries, records, tokenizer."""
    # The base is held in memory only here; in a run it is counted with the run.
    give_back_freed()
    held = sum(p.nbytes for p in chain.from_iterable(model.parameters() for model in material.base.held))
    return max(0.0, held_memory(torch.device("cpu")) - held)
