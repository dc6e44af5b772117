"""What several methods share: low-rank adapters, blended streams, endless passes, the diagonal Fisher, orders by difficulty."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

import torch
from torch import nn

from harness.contract import Example, Run, Step, Weights

T = TypeVar("T")


def low_rank(model: nn.Module, targets: str, **settings: Any) -> nn.Module:
    """The model with peft's low-rank adapters; `targets`: `all-linear`, or names of layers joined by commas.

    Factors are in the model's precision: with fp32 masters, like every other trained weight. `settings`: of peft's LoraConfig.
    """
    from peft import LoraConfig

    named = targets if targets == "all-linear" else [name.strip() for name in targets.split(",")]
    return peft_model(model, LoraConfig(target_modules=named, **settings))


def virtual_tokens(model: nn.Module, config: type, **settings: Any) -> nn.Module:
    """Return the model with peft's virtual tokens in front of every text; `config`: the class of peft's configuration."""
    return peft_model(model, config(task_type="CAUSAL_LM", **settings))


def peft_model(model: nn.Module, config: Any) -> nn.Module:
    """Return the model as peft wraps it, without its warnings.

    What added parts need of the model, and what does not fold, is found by trying it (harness/setup/recipe_trial.py).
    """
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(model, config, autocast_adapter_dtype=False)


def blend(
    steps: Iterator[Step], size: int, ratios: Iterable[float], general: Iterator[Example], every: int = 1
) -> Iterator[Step]:
    """Steps of `size` examples, a ratio of each from `general`, in each `every`-th step only; the domain keeps its order.

    `ratios` gives each step's. Their sum is exact over time: what one step rounds away a later one makes up for.
    """
    domain, owed = chain.from_iterable(steps), 0.0
    for step, ratio in enumerate(ratios, 1):
        owed += ratio * size
        n_general = int(owed + 1e-9) if step % every == 0 else 0
        owed -= n_general
        fresh = list(islice(domain, size - n_general))
        if len(fresh) < size - n_general:
            return
        yield fresh + list(islice(general, n_general))


def passes(examples: Sequence[Example], generator: torch.Generator) -> Iterator[Example]:
    """The examples in a new order every pass, for ever."""
    while True:
        for index in torch.randperm(len(examples), generator=generator).tolist():
            yield examples[index]


def diagonal_fisher(model: nn.Module, run: Run, examples: Iterable[Example], labels: str = "true") -> Weights:
    """F_i = mean_x [(d log p(y|x) / d theta_i)^2] of an unwrapped model, charged as `fisher`, scaled to mean 1.

    One sequence at a time: gradients averaged over a batch before squaring would make it too small by the batch size. y is
    drawn from the model (`labels="true"`, from the global generator: call it inside `run.rng`), else the data's own.
    """
    fisher = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in model.named_parameters()}
    for example in examples:
        (batch,) = run.batches([example])
        with run.charged("fisher", model, batch, backward=True):
            nll, logits = run.nll(model, batch)
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
    """The same, with mean 1 over all weights: then one strength means much the same on different models (our choice).

    `summed` (`run.summed`): where a process holds but a part of the weights.
    """
    total = summed(sum(float(part.sum()) for part in importance.values()))
    mean = total / summed(sum(part.numel() for part in importance.values()))
    return {name: part / mean if mean else part for name, part in importance.items()}


def by_difficulty(ranked: Sequence[T], order: str, generator: torch.Generator, strata: int = 8) -> list[T]:
    """What is ranked from easy to hard, in another order: `easy` or `hard` first, or `mixed`.

    Mixed: cut into `strata` parts of equal size (the last may be smaller), each shuffled, and dealt in turn, so that any
    `strata` successive things span the whole range.
    """
    if order != "mixed":
        return list(ranked if order == "easy" else ranked[::-1])
    size = -(-len(ranked) // strata)
    parts = [ranked[first : first + size] for first in range(0, len(ranked), size)]
    shuffled = [[part[i] for i in torch.randperm(len(part), generator=generator).tolist()] for part in parts]
    return [part[place] for place in range(size) for part in shuffled if place < len(part)]
