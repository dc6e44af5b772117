"""What several methods share: peft's wrappers, streams of examples, statistics of the base, the divergence from it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, zip_longest
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.contract import Batch, Example, Folding, Run, Step, Weights, blocks_of

T = TypeVar("T")


def low_rank(model: nn.Module, targets: str, **settings: Any) -> nn.Module:
    """Return the model with peft's low-rank adapters; `targets`: `all-linear`, or names of layers joined by commas.

    Factors are in the model's precision: with fp32 masters, like every other trained weight. `settings`: of peft's LoraConfig.
    """
    from peft import LoraConfig

    return wrapped_by_peft(model, targets, LoraConfig, **settings)


def wrapped_by_peft(model: nn.Module, targets: str, config: Callable[..., Any], **settings: Any) -> nn.Module:
    """Return the model as one of peft's methods wraps it; `config` is that method's class of settings.

    Of all linear layers those are left out that return more than one tensor: routers of experts are such layers in some models.
    """
    if targets != "all-linear":
        return peft_model(model, config(target_modules=[name.strip() for name in targets.split(",")], **settings))
    routers = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and not returns_one(layer)]
    left_out = {"exclude_modules": routers} if routers else {}
    return peft_model(model, config(target_modules=targets, **left_out, **settings))


def returns_one(layer: nn.Linear) -> bool:
    """Return whether a linear layer returns one tensor, as what is put around it expects; one with its own forward is tried."""
    if type(layer).forward is nn.Linear.forward or hasattr(layer.weight, "quant_state"):
        return True
    with torch.no_grad():
        output = layer(torch.zeros(1, layer.in_features, dtype=layer.weight.dtype, device=layer.weight.device))
    return isinstance(output, Tensor)


def virtual_tokens(model: nn.Module, config: type, **settings: Any) -> nn.Module:
    """Return the model with peft's virtual tokens in front of every text; `config`: the class of peft's configuration."""
    return peft_model(model, config(task_type="CAUSAL_LM", **settings))


def peft_model(model: nn.Module, config: Any) -> nn.Module:
    """Return the model as peft wraps it, without its warnings.

    Whether the added parts fit the model and fold is tried beforehand (harness/setup/recipe_trial.py).
    """
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(model, config, autocast_adapter_dtype=False)


def low_rank_layers(model: nn.Module) -> dict[str, Any]:
    """Return peft's low-rank layers by the plain name of the weight they change.

    Raises ValueError where one stands around anything but a linear layer.
    """
    from peft.tuners.lora import Linear, LoraLayer

    layers = {}
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer):
            if not isinstance(layer, Linear):
                raise ValueError(f"{type(layer.get_base_layer()).__name__} layers have no such start; name linear layers")
            layers[f"{name.removeprefix('base_model.model.')}.weight"] = layer
    return layers


def low_rank_from(
    model: nn.Module, targets: str, rank: int, begin: Callable[[str, Tensor], tuple[Tensor, Tensor]]
) -> nn.Module:
    """Return the model with low-rank adapters whose factors begin at B0 A0, which is subtracted: so the start is the base.

    W = W0 + B A - B0 A0. `begin` gives A0 (rank, in) and B0 (out, rank) for a weight's name and fp32 value (out, in).
    """
    wrapped = low_rank(model, targets, r=rank, lora_alpha=rank)
    for name, layer in low_rank_layers(wrapped).items():
        weight = layer.get_base_layer().weight.detach()
        if rank > min(weight.shape):
            raise ValueError(f"r={rank} is more than {name} has, {tuple(weight.shape)}; give a smaller r")
        # Where only shapes are wanted (prices, memory) there are no values to begin with.
        if not weight.is_meta:
            start = weight.T if layer.fan_in_fan_out else weight
            down, up = begin(name, start.float())
            with torch.no_grad():
                layer.lora_A["default"].weight.copy_(down)
                layer.lora_B["default"].weight.copy_(up)
        layer.folding = Begun(layer)
        layer.lora_variant["default"] = layer.folding
    return wrapped


class Begun(Folding):
    """W = W0 + B A - B0 A0 for a low-rank layer of peft: how it folds and, as peft's variant, how it computes.

    The published forms take B0 A0 out of W0 once, which costs nothing later, but rounds W0. Here the layer computes it each
    time (a frozen second adapter, which is charged), and the start is the base to the last bit.
    """

    def __init__(self, layer: Any):
        self.layer = layer
        self.factors = (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
        layer.register_buffer("began_down", self.factors[0].detach().clone(), persistent=False)
        layer.register_buffer("began_up", self.factors[1].detach().clone(), persistent=False)

    def __call__(self, start: Tensor, factors: Sequence[Tensor]) -> Tensor:
        down, up = factors
        change = up @ down - self.layer.began_up.to(start) @ self.layer.began_down.to(start)
        return start + (change.T if self.layer.fan_in_fan_out else change)

    def forward(self, layer: Any, *, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """Add to what the base computes; both products are made alike, so that they cancel to exactly 0 at the start."""
        down, up = self.factors
        began = F.linear(F.linear(x, layer.began_down), layer.began_up)
        return result + (F.linear(F.linear(x, down), up) - began)


def blend(
    steps: Iterator[Step], size: int, ratios: Iterable[float], general: Iterator[Example], every: int = 1
) -> Iterator[Step]:
    """Yield steps of `size` examples, a ratio of each from `general`, in each `every`-th step only; the domain keeps its order.

    `ratios` gives each step's. Their sum is exact over time: what one step rounds away a later one makes up for.
    """
    domain = chain.from_iterable(steps)
    owed = 0.0
    for step, ratio in enumerate(ratios, 1):
        owed += ratio * size
        n_general = int(owed + 1e-9) if step % every == 0 else 0
        owed -= n_general
        fresh = list(islice(domain, size - n_general))
        if len(fresh) < size - n_general:
            return
        yield fresh + list(islice(general, n_general))


def passes(examples: Sequence[Example], generator: torch.Generator) -> Iterator[Example]:
    """Yield the examples in a new order every pass, for ever."""
    while True:
        for index in torch.randperm(len(examples), generator=generator).tolist():
            yield examples[index]


def diagonal_fisher(model: nn.Module, run: Run, examples: Iterable[Example], labels: str = "true") -> Weights:
    """Return F_i = mean_x [(d log p(y|x) / d theta_i)^2] of an unwrapped model, charged as `fisher`, scaled to mean 1.

    One sequence at a time: gradients averaged over a batch before squaring would make it too small by the batch size. y is
    drawn from the model (`labels="true"`, from the global generator: call it inside `run.rng`), else the data's own.
    """
    fisher = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in model.named_parameters()}
    for example in examples:
        (batch,) = run.batches([example])
        with run.charged("fisher", model, batch, backward=True):
            nll, logits = run.nll(model, batch)
            # The true Fisher is an expectation over the model's own labels; the data's give the empirical one.
            if labels == "true":
                drawn = torch.multinomial(logits.detach().softmax(-1), 1).squeeze(1)
                nll = nn.functional.cross_entropy(logits, drawn, reduction="none")
            nll.sum().backward()
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    fisher[name] += parameter.grad.float().square()
            model.zero_grad()
    return scaled(fisher)


def scaled(importance: Weights, summed: Callable[[float], float] = float) -> Weights:
    """Return the same, with mean 1 over all weights: then one strength means much the same on different models (our choice).

    `summed` (`run.summed`): where a process holds but a part of the weights.
    """
    total = summed(sum(float(part.sum()) for part in importance.values()))
    mean = total / summed(sum(part.numel() for part in importance.values()))
    return {name: part / mean if mean else part for name, part in importance.items()}


def by_difficulty(ranked: Sequence[T], order: str, generator: torch.Generator, strata: int = 8) -> list[T]:
    """Return what is ranked from easy to hard, in another order: `easy` or `hard` first, or `mixed`.

    Mixed: cut into `strata` parts of equal size (the last may be smaller), each shuffled, and dealt in turn, so that any
    `strata` successive things span the whole range.
    """
    if order != "mixed":
        return list(ranked if order == "easy" else ranked[::-1])
    size = -(-len(ranked) // strata)
    parts = [ranked[first : first + size] for first in range(0, len(ranked), size)]
    shuffled = [[part[i] for i in torch.randperm(len(part), generator=generator).tolist()] for part in parts]
    turns = zip_longest(*shuffled)  # the last part may be shorter: None fills it up
    return [thing for thing in chain.from_iterable(turns) if thing is not None]


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear layers of an unwrapped model's blocks, by name. Raises ValueError where it has none."""
    inside = set(map(id, chain.from_iterable(block.modules() for block in blocks_of(model))))
    layers = {name: module for name, module in model.named_modules() if id(module) in inside and isinstance(module, nn.Linear)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no torch.nn.Linear in its blocks, whose inputs could be looked at")
    return layers


def look_at_inputs(model: nn.Module, run: Run, examples: Sequence[Example], look: Callable[[str, Tensor], float]) -> None:
    """Let an unwrapped model read these examples, forwards only, charged as `statistics`.

    `look` is given the name of each linear layer's weight and what the layer reads at the batch's real tokens, (N, in) fp32.
    It returns the FLOPs of its own matrix products, which are charged too.
    """
    # Hooks see what a layer reads, not which tokens are real: mask and count are set for each batch.
    mask = torch.zeros(0)
    looks = 0.0

    def hook(name: str) -> Callable[..., None]:
        def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            nonlocal looks
            looks += look(f"{name}.weight", inputs[0].reshape(-1, inputs[0].shape[-1])[mask].float())

        return see

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in linear_layers(model).items()]
    try:
        for batch in run.batches(examples):
            mask = batch.mask.flatten().bool()
            looks = 0.0
            with torch.no_grad(), run.charged("statistics", model, batch, backward=False) as bill:
                run.nll(model, batch)
                bill.flops += looks
    finally:
        for handle in handles:
            handle.remove()


def depths(names: Sequence[str]) -> dict[str, float]:
    """Return how deep in the model each weight stands, from 0 (the first block, and what comes before) to 1 (the last).

    `names` are plain, in the model's order: a weight's first number is its block's; weights without one stand where they stand.
    """
    blocks: dict[str, int | None] = {}
    for name in names:
        numbers = [int(part) for part in name.split(".") if part.isdigit()]
        blocks[name] = numbers[0] if numbers else None
    last = max((block for block in blocks.values() if block is not None), default=0)
    depth_of: dict[str, float] = {}
    current = 0
    for name, block in blocks.items():
        current = current if block is None else block
        depth_of[name] = current / last if last else 1.0
    return depth_of


def divergence_from_base(logits: Tensor, batch: Batch, run: Run, reverse: bool = False) -> Tensor:
    """Return KL(p0 || p) in nats at each supervised token of the domain's rows, (S,), p0 the base's; 0 elsewhere.

    `reverse`: KL(p || p0). Where an example has something `shown`, p0 is what the base says after that.
    """
    ours = batch.from_source("domain")
    divergence = torch.zeros_like(logits[:, 0])
    if not ours.any():
        return divergence
    base = F.log_softmax(run.base_logits(batch), dim=-1)
    tuned = F.log_softmax(logits[ours], dim=-1)
    of, against = (base, tuned) if reverse else (tuned, base)
    return divergence.masked_scatter(ours, F.kl_div(of, against, reduction="none", log_target=True).sum(-1))


def input_moments(model: nn.Module, run: Run, examples: Sequence[Example]) -> Weights:
    """Return X^T X / N (in, in) of what each linear layer reads of these examples, by its weight's name; in host memory.

    Of an unwrapped model; charged as `statistics`. Layers times inputs squared in fp32: 30 GB for a model of 7 B weights.
    """
    moments: Weights = {}
    tokens: dict[str, int] = {}

    def add(name: str, inputs: Tensor) -> float:
        product = (inputs.T @ inputs).cpu()
        moments[name] = moments[name].add_(product) if name in moments else product
        tokens[name] = tokens.get(name, 0) + len(inputs)
        return 2.0 * inputs.shape[1] * inputs.numel()

    look_at_inputs(model, run, examples, add)
    return {name: moment / tokens[name] for name, moment in moments.items()}


def halves(u: Tensor, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return (A, B) with B A = u diag(s) v, the singular values (r,) shared out as their roots; u (out, r), v (r, in)."""
    roots = s.sqrt()
    return roots[:, None] * v, u * roots
