"""Layer-wise interpolation with the base, its strength chosen on dev items after training."""

import torch
from torch import Tensor, nn

from harness.contract import Method, Run, Weights
from harness.toolbox import depths


class Interpolate(Method):
    """theta0 + lambda_l(s) (theta - theta0) with the largest of s = 1, 1 - 1/`tries`, ..., 0 that keeps general ability.

    lambda_l(s) goes from max(0, 2 s - 1) at the first block to min(1, 2 s) at the last: from the tuned model (s = 1) the
    shallow blocks go back first, as LiNeS has it, then the deep ones, to the base (s = 0). That path is our choice. It keeps
    what falls at most `epsilon` points of retention below the base's: the macro mean score on the general dev items, never a
    test item, hence a method of the general track. The base's evaluation and `tries` more are charged before the first step;
    what the choice does not ask for stays charged. On the 120 dev items that are asked at most, one point is about one item:
    a small `epsilon` also goes back by chance.
    """

    paper = (
        "Scaling by layer: Wang et al. 2024, arXiv:2410.17146, eq. 2; the choice on dev items is ours. "
        "@inproceedings{wang2025lines, title={LiNeS: Post-training Layer Scaling Prevents Forgetting and Enhances Model "
        "Merging}, author={Wang, Ke and Dimitriadis, Nikolaos and Favero, Alessandro and Ortiz-Jimenez, Guillermo and Fleuret, "
        "Fran\\c{c}ois and Frossard, Pascal}, booktitle={ICLR}, year={2025}}"
    )
    verified = "factors of named weights by hand; the strength by given retentions; every evaluation charged before training"
    off = {"tries": 0}
    search = {"epsilon": (0.5, 5.0)}
    bounds = {"epsilon": "[0, inf)", "tries": "[0, inf)"}
    needs = frozenset({"general_data", "dev_scores", "line"})
    unsharded = "it scores whole models"

    def __init__(self, epsilon: float = 1.0, tries: int = 4):
        self.epsilon, self.tries = epsilon, tries
        self.base_: float | None = None
        """The base's retention, 0 to 1; None where the budget did not pay for it."""
        self.notes_: list[str] = []

    def prepare(self, model: nn.Module, run: Run) -> None:
        if self.tries:
            self.base_ = run.dev_scores(model, ahead=self.tries)

    def finish(self, weights: Weights, run: Run) -> Weights:
        if self.base_ is None:
            return weights
        for left in range(self.tries, 0, -1):
            strength = left / self.tries
            between = interpolated(weights, run.start, strength)
            retention = run.dev_scores(run.model_with(between))
            if retention is None:
                self.notes_ = ["The budget paid for no further look at dev items: the weights are as trained."]
                return weights
            if retention >= self.base_ - self.epsilon / 100:
                kept = f"retention {retention:.3f} on dev items, the base's is {self.base_:.3f}"
                self.notes_ = [f"Strength {strength:g} of the change was chosen: {kept}."]
                return between
        least = self.base_ - self.epsilon / 100
        self.notes_ = [f"No strength above 0 kept retention at {least:.3f} on dev items: these are the base's weights."]
        return interpolated(weights, run.start, 0.0)

    def notes(self) -> list[str]:
        return self.notes_

    def state(self) -> dict[str, Tensor]:
        return {} if self.base_ is None else {"base": torch.tensor(self.base_, dtype=torch.float64)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.base_ = float(state["base"]) if state else None


def interpolated(weights: Weights, start: Weights, strength: float) -> Weights:
    """Return the weights at a strength of the path, 1 the tuned ones, 0 the base's."""
    first, last = max(0.0, 2 * strength - 1), min(1.0, 2 * strength)
    factors = {name: first + (last - first) * depth for name, depth in depths(list(weights)).items()}
    return {name: start[name].lerp(tuned, factors[name]) for name, tuned in weights.items()}
