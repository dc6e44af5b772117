"""Stop as soon as general ability falls on dev items."""

import torch
from torch import Tensor, nn

from harness.contract import Method, Run, Weights


class EarlyStop(Method):
    """Stop at the first dev evaluation where retention is more than `epsilon` points below the base's.

    `evaluations` are spread evenly over the budget: the base's first, the others after each further part; all are charged,
    with their generation. Retention is the macro mean score on the general dev items, never a test item, hence a method of
    the general track. The run gives the weights of the last evaluation that kept it, so the base at worst; one that never
    breaks the rule gives its last weights. (The last part of the budget, where the learning rate is nearly 0, is not looked at
    again.) Training precision: on a GPU these decisions are made in bf16. On the 120 dev items that are asked at most, one
    point is about one item: a small `epsilon` also stops by chance.
    """

    paper = (
        "Retention as the criterion, on dev items; that it cannot avoid forgetting: Kalajdzievski 2024, arXiv:2401.05605. "
        "@article{kalajdzievski2024scaling, title={Scaling Laws for Forgetting When Fine-Tuning Large Language Models}, "
        "author={Kalajdzievski, Damjan}, journal={arXiv:2401.05605}, year={2024}}"
    )
    verified = "stops at the first breach and gives the weights before it; every evaluation charged"
    off = {"evaluations": 0}
    search = {"epsilon": (0.5, 5.0)}
    bounds = {"epsilon": "[0, inf)", "evaluations": "[0, inf)"}
    needs = frozenset({"general_data", "dev_scores", "line"})
    unsharded = "it scores the whole model on the way, and keeps its weights"

    def __init__(self, epsilon: float = 1.0, evaluations: int = 10):
        self.epsilon, self.evaluations = epsilon, evaluations
        self.least_ = 0.0
        """The lowest retention that is no breach, 0 to 1."""
        self.made_ = 0
        """Evaluations whose time has come."""
        self.kept_: Weights = {}
        """Weights of the last evaluation that was no breach."""
        self.breached_ = False
        self.notes_: list[str] = []

    def prepare(self, model: nn.Module, run: Run) -> None:
        retention = run.dev_scores(model)
        if retention is not None:
            self.least_ = retention - self.epsilon / 100
            self.made_ = 1
            self.kept_ = run.weights()

    def stop(self, run: Run) -> bool:
        due = min(int(run.budget_spent * self.evaluations + 1e-9) + 1, self.evaluations)
        if due <= self.made_ or not self.made_:
            return False
        self.made_ = due
        retention = run.dev_scores()
        if retention is None:
            return False
        self.breached_ = retention < self.least_
        if self.breached_:
            measured = f"retention {retention:.3f} on dev items, {self.least_:.3f} was the least allowed"
            self.notes_ = [f"Stopped at {run.budget_spent:.0%} of the budget: {measured}; the weights before are kept."]
        else:
            self.kept_ = run.weights()
        return self.breached_

    def finish(self, weights: Weights, run: Run) -> Weights:
        if not self.breached_:
            return weights
        return {name: self.kept_.get(name, run.start[name]) for name in weights}  # kept before wrapping: without what it added

    def notes(self) -> list[str]:
        return self.notes_

    def state(self) -> dict[str, Tensor]:
        if not self.made_:
            return {}
        told = torch.tensor([self.least_, self.made_], dtype=torch.float64)
        return {"told": told} | {f"kept/{name}": tensor for name, tensor in self.kept_.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        if state:
            self.least_, self.made_ = float(state["told"][0]), int(state["told"][1])
            self.kept_ = {name.removeprefix("kept/"): t.cpu() for name, t in state.items() if name.startswith("kept/")}
