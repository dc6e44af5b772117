"""Source-shielded updates: the columns of each matrix that matter most for general inputs are frozen."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.contract import Method, Run, Weights
from harness.toolbox import linear_layers, look_at_inputs


class Ssu(Method):
    """S_j = sum_i |W_ij| ||X_j||_2, X_j the j-th input over general tokens; the `frozen` part of columns of highest S rests.

    `samples` general sequences are read by the base before the first step, forwards only, charged as `statistics`. Matrices are
    the blocks' linear layers; embeddings, head, norms and biases train. Frozen columns cost as much as others. (Published code
    takes a column's 2-norm for the sum of its magnitudes.) `by=random` is the control: as many columns, drawn by the seed.
    """

    paper = (
        "Yamaguchi et al. 2025, arXiv:2512.04844. "
        "@article{yamaguchi2025ssu, title={Mitigating Catastrophic Forgetting in Target Language Adaptation of LLMs via "
        "Source-Shielded Updates}, author={Yamaguchi, Atsuki and Morishita, Terufumi and Villavicencio, Aline and Aletras, "
        "Nikolaos}, journal={arXiv:2512.04844}, year={2025}}"
    )
    verified = "scores by hand, padding left out; frozen columns end with the base's bits, under weight decay too"
    off = {"frozen": 0.0}
    search = {"frozen": (0.25, 0.75)}
    bounds = {"frozen": "[0, 1)", "samples": "[1, inf)", "by": ("importance", "random")}
    unsharded = "columns are those of whole matrices"

    def __init__(self, frozen: float = 0.5, samples: int = 500, by: str = "importance"):
        self.frozen, self.samples, self.by = frozen, samples, by
        self.needs = frozenset({"general_data"}) if by == "importance" else frozenset()
        self.columns_: dict[str, Tensor] = {}
        """Weight name -> (k,) its frozen columns."""

    def prepare(self, model: nn.Module, run: Run) -> None:
        generator = run.generator("ssu")
        weights = {f"{name}.weight": layer.weight for name, layer in linear_layers(model).items()}
        if self.by == "random":
            scores = {name: torch.rand(weight.shape[1], generator=generator) for name, weight in weights.items()}
        else:
            chosen = torch.randperm(len(run.general), generator=generator)[: self.samples].tolist()
            scores = self._importance(model, run, weights, chosen)
        for name, score in scores.items():
            self.columns_[name] = score.topk(int(self.frozen * len(score))).indices

    def _importance(self, model: nn.Module, run: Run, weights: Weights, chosen: list[int]) -> Weights:
        """Weight name -> (in,) the score of each column."""
        squares: Weights = {}

        def add(name: str, inputs: Tensor) -> float:
            total = inputs.square().sum(0)
            squares[name] = squares[name] + total if name in squares else total
            return 0.0  # no matrix product

        look_at_inputs(model, run, [run.general[i] for i in chosen], add)
        return {name: weights[name].detach().float().abs().sum(0) * total.sqrt() for name, total in squares.items()}

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        return model  # all of the base's own weights train, but for columns: it goes with nothing that wraps them

    def gradient(self, weights: Weights, gradients: Weights, run: Run) -> None:
        for name, columns in self.columns_.items():
            if name in gradients:
                gradients[name][:, columns.to(gradients[name].device)] = 0.0

    def update(self, step: Callable[[], None], weights: Weights, run: Run) -> None:
        kept = {name: weights[name].detach()[:, columns] for name, columns in self._on_device(weights).items()}
        step()
        for name, columns in self._on_device(weights).items():
            weights[name].data[:, columns] = kept[name]  # weight decay had moved them

    def _on_device(self, weights: Weights) -> dict[str, Tensor]:
        return {name: columns.to(weights[name].device) for name, columns in self.columns_.items() if name in weights}

    def state(self) -> dict[str, Tensor]:
        return self.columns_

    def restore(self, state: dict[str, Tensor]) -> None:
        self.columns_ = dict(state)
