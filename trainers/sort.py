"""Order the domain examples by how hard the base finds them."""

import torch
from torch import Tensor, nn

from harness.contract import Example, Method, Run
from harness.toolbox import by_difficulty


class Sort(Method):
    """Every epoch runs `order=easy` (easy first), `hard` (hard first) or `mixed`; `random` is plain fine-tuning's shuffle.

    Mixed: cut by difficulty into `strata` parts of equal size, shuffle each, and deal them in turn, so that any `strata`
    successive examples span the whole range. Difficulty: the base's mean token loss (`by=loss`), or by how much that exceeds
    what its own entropy lets expect (`by=similarity`: mean z_loss - z_entropy). One charged forward over the domain; a later
    stage's examples are read by the model as it then is. Examples that another method made afterwards have no difficulty of
    their own and stand in the middle.
    """

    paper = (
        "Bengio et al. 2009 (curriculum learning); similarity rank: y-trainer, whose own guide prefers mixed to easy-first. "
        "@inproceedings{bengio2009curriculum, title={Curriculum Learning}, author={Bengio, Yoshua and Louradour, Jerome and "
        "Collobert, Ronan and Weston, Jason}, booktitle={ICML}, year={2009}}"
    )
    verified = "epochs run by the base's loss; entropy and loss from the logits of one place"
    off = {"order": "random"}
    bounds = {"order": ("easy", "hard", "mixed", "random"), "by": ("loss", "similarity"), "strata": "[2, inf)"}

    def __init__(self, order: str = "mixed", by: str = "loss", strata: int = 8):
        self.how, self.by, self.strata = order, by, strata
        self.difficulty_ = torch.zeros(0)

    def prepare(self, model: nn.Module, run: Run) -> None:
        self.difficulty_ = run.difficulty(model, run.domain, self.by)

    def stage_begin(self, model: nn.Module, run: Run) -> None:
        self.prepare(model, run)  # the new stage's examples, as the model now finds them

    def order(self, examples: list[Example], run: Run, generator: torch.Generator) -> list[Example]:
        if self.how == "random":
            return super().order(examples, run, generator)
        known = dict(zip((e.tokens for e in run.domain), self.difficulty_.tolist(), strict=False))
        middle = float(self.difficulty_.median()) if known else 0.0
        ranked = sorted(examples, key=lambda e: (known.get(e.tokens, middle), e.id))
        return by_difficulty(ranked, self.how, generator, self.strata)

    def state(self) -> dict[str, Tensor]:
        return {"difficulty": self.difficulty_}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.difficulty_ = state["difficulty"]
