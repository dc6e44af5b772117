"""Wrapped models: what the PARAMS hooks make of the base, and the weights that a trained one amounts to.

A trained state is plain weights plus whatever was added and cannot be folded into them (`added.<its own name>`). The base's own
weights keep their names however deep they are wrapped: they are recognised as objects, not by spelling.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from harness.contract import PLACES, Folding, Method, Run, Weights
from harness.recipes.hooks import ask

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # which peft imports, and which warns of kernels that we do not use


@dataclass(frozen=True)
class Fold(Folding):
    """A low-rank layer of peft as a function of its factors, in fp32; nothing is merged in place.

    W = W0 + s B A; of experts held in one weight, each with factors of its own. With a magnitude m (DoRA): W = m / ||V|| V,
    V = W0 + s B A, norms over each output's weights. There m is taken relative to what it began as (in the computing
    precision), so that the start is W0 to the last bit.
    """

    layer: Any
    factors: tuple[nn.Parameter, ...]  # type: ignore[misc]
    """A (r, in), B (out, r) and, where there is one, m (out,)."""
    quantised: Tensor | None
    """fp32 values of a quantised W0 before its first forward (a later one may repack it), in the host's memory, where what was
    saved by quantising is not spent again; None: W0 is the base's own."""
    magnitude: Tensor | None
    """m as it began."""

    @classmethod
    def of(cls, layer: Any) -> Fold:
        # Embeddings and convolutions keep their factors elsewhere: they are refused by name.
        name = layer.active_adapters[0]
        if name not in layer.lora_A:
            raise ValueError(f"{type(layer.get_base_layer()).__name__} layers do not fold; name linear layers")
        factors = [layer.lora_A[name].weight, layer.lora_B[name].weight]
        if layer.use_dora[name]:
            factors.append(layer.lora_magnitude_vector[name].weight)
        magnitude = factors[2].detach().float().clone() if len(factors) == 3 else None
        weight = getattr(layer.get_base_layer(), _weight_name(layer))
        return cls(layer, tuple(factors), dequantised(weight), magnitude)

    def __call__(self, start: Tensor, factors: Sequence[Tensor]) -> Tensor:
        """Return the effective weight where the base has `start`; differentiable in the factors."""
        origin = start if self.quantised is None else self.quantised.to(start.device)

        # peft scales the product by alpha / r, of its one active adapter.
        weight = origin + self.layer.scaling[self.layer.active_adapters[0]] * self._product(*factors[:2])
        if self.magnitude is None:
            return weight

        # The magnitude relative to its start: so the fold of an untrained DoRA is W0 to the last bit.
        inputs = 0 if self.layer.fan_in_fan_out else 1
        scale = factors[2] / self.magnitude.to(weight.device)
        ratio = scale * torch.linalg.norm(origin, dim=inputs) / torch.linalg.norm(weight, dim=inputs)
        return ratio.unsqueeze(inputs) * weight

    def _product(self, down: Tensor, up: Tensor) -> Tensor:
        """Return B A in the form of W0.

        E experts: A (r E, in), B (out, r E), rows of A by expert, columns of B by place in it.
        """
        experts = getattr(self.layer, "num_experts", 1)
        if experts == 1:
            return (up @ down).T if self.layer.fan_in_fan_out else up @ down
        # peft stacks the experts of one layer in one pair of factors.
        parts = up.reshape(len(up), -1, experts), down.reshape(experts, -1, down.shape[1])
        outwards = self.layer._did_swap_in_out_features  # W0 is (E, out, in), else (E, in, out)
        return torch.einsum("ore,eri->eoi" if outwards else "ore,eri->eio", *parts)


def _weight_name(layer: Any) -> str:
    """Return what a low-rank layer changes of the layer in it: its weight, or a named parameter (of experts)."""
    return getattr(layer, "parameter_name", "weight")


def dequantised(weight: Tensor) -> Tensor | None:
    """Return fp32 values of a 4-bit weight, in the host's memory; None where it is not quantised."""
    if not hasattr(weight, "quant_state"):
        return None
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, weight.quant_state).float().cpu()  # type: ignore[attr-defined]


def unfolded(methods: Sequence[Method]) -> list[Method]:
    """Return the methods whose added parameters do not fold into plain weights: what is scored is wrapped by them too."""
    return [method for method in methods if method.adds and not method.folds]


@dataclass
class Wrapped:
    """A model after the PARAMS hooks, and how its parameters are called."""

    model: Any
    start: Weights
    """Plain weights of the base, and what is added (and not folded) as it began."""
    names: dict[str, str]
    """Name in the model -> plain name, or `added.<name>`; folded factors and quantised weights have none."""
    folds: dict[str, Folding] = field(default_factory=dict)
    """Plain weight name -> the layer that changes it."""
    silenced: bool = False
    """Whether `disable_adapter` makes it the base again."""

    def effective(self, values: Weights) -> Weights:
        """Return fp32 weights of the model, where `values` are its trained parameters by the model's own names."""
        # What is not trained keeps the base's value.
        weights = {name: tensor.clone() for name, tensor in self.start.items()}
        for name, value in values.items():
            if name in self.names:
                plain = self.names[name]
                weights[plain] = value.detach().to(weights[plain].device, copy=True)

        # Folded weights are not in `names`: they follow from the base's value and the factors.
        for plain, (fold, factors) in self.folded(values).items():
            with torch.no_grad():
                weights[plain] = fold(self.start[plain], [factor.detach().to(self.start[plain].device) for factor in factors])
        return weights

    def folded(self, values: Weights) -> dict[str, tuple[Folding, list[Tensor]]]:
        """Return plain weight name -> its fold and that fold's factors, taken from `values` where they are trained."""
        # By object, as names change with each wrapper; a factor that does not train has its present
        # value.
        trained = {id(p): values[name] for name, p in self.model.named_parameters() if name in values}
        return {
            plain: (fold, [trained.get(id(factor), factor.detach().float()) for factor in fold.factors])
            for plain, fold in self.folds.items()
        }

    @torch.no_grad()
    def set(self, weights: Weights) -> None:
        """Copy weights into the model."""
        for name, parameter in self.model.named_parameters():
            parameter.copy_(weights[self.names[name]])


def wrap(model: nn.Module, methods: Sequence[Method], run: Run, start: Weights) -> Wrapped:
    """Apply the PARAMS hooks to a fresh base, each with its own random stream; what earlier ones added stays trained.

    `start`: the base's fp32 weights by plain name.
    """
    originals = dict(model.named_parameters())  # held, so that no id is given to another object meanwhile
    base_names = {id(parameter): name for name, parameter in originals.items()}
    added: list[nn.Parameter] = []
    folds: dict[str, Folding] = {}

    # In the order of places: what is added later must not be wrapped by what came before.
    for method in sorted(methods, key=lambda m: list(PLACES).index(m.adds)):
        with run.rng(f"wrap {type(method).__name__}"):
            model = ask(method, "trainable", model, run)

        # peft freezes everything that it does not add, earlier methods' parameters too.
        for parameter in added:
            parameter.requires_grad_(True)
        added = [p for p in model.parameters() if p.requires_grad and id(p) not in base_names]
        folds = folds or _folds(model)  # at once: what is wrapped around a layer later changes its name

    # Every parameter is one of three: the base's own, a factor that folds, or added.
    inside = {id(factor) for factor in chain.from_iterable(fold.factors for fold in folds.values())}
    names = {}
    began = {}
    for name, parameter in model.named_parameters():
        if id(parameter) in base_names:
            names[name] = base_names[id(parameter)]
        elif id(parameter) not in inside and not hasattr(parameter, "quant_state"):
            names[name] = f"added.{_plain(name)}"
            began[names[name]] = parameter

    # With adapters off it is the base only if one method wrapped it and all its weights are there.
    whole = set(names.values()) >= set(base_names.values())
    silenced = hasattr(model, "disable_adapter") and whole and len(methods) == 1
    values = {name: p.detach().to("cpu", torch.float32, copy=True) for name, p in began.items() if not p.is_meta}
    return Wrapped(model, start | values, names, folds, silenced)


def _folds(model: nn.Module) -> dict[str, Folding]:
    """Return plain weight name -> how the layer that changes it folds: as the layer itself says, else as a low-rank
    layer of peft.
    """
    from peft.tuners.lora import LoraLayer

    folds: dict[str, Folding] = {}
    for name, layer in model.named_modules():
        if isinstance(getattr(layer, "folding", None), Folding):
            folds[f"{_plain(name)}.weight"] = layer.folding  # type: ignore[assignment]
        elif isinstance(layer, LoraLayer) and layer.active_adapters:
            folds[f"{_plain(name)}.{_weight_name(layer)}"] = Fold.of(layer)
    return folds


def _plain(name: str) -> str:
    """Return a module's or parameter's name without what peft puts around it."""
    return name.removeprefix("base_model.model.").replace(".base_layer", "")


class Silenced(nn.Module):
    """The trained model with its adapters off, in place of the base: another object, so that it is priced as the base."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def get_output_embeddings(self) -> nn.Module:
        return self.model.get_output_embeddings()  # type: ignore[operator]

    def forward(self, **inputs: Any) -> Any:
        return self.model(**inputs)
