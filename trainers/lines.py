"""LiNeS, after training: the change of shallow layers is scaled down, that of deep ones stays. No training cost."""

from harness.contract import Method, Run, Weights
from harness.toolbox import depths


class Lines(Method):
    """theta0 + lambda_l (theta - theta0), lambda_l = first + (last - first) depth, depth 0 at the first block, 1 at the last.

    Embeddings have `first`, final norm and an untied head `last`. `wise(alpha)` is `first = last`.
    """

    paper = (
        "Wang et al. 2024, arXiv:2410.17146, eq. 2. "
        "@inproceedings{wang2025lines, title={LiNeS: Post-training Layer Scaling Prevents Forgetting and Enhances Model "
        "Merging}, author={Wang, Ke and Dimitriadis, Nikolaos and Favero, Alessandro and Ortiz-Jimenez, Guillermo and Fleuret, "
        "Fran\\c{c}ois and Frossard, Pascal}, booktitle={ICLR}, year={2025}}"
    )
    verified = "factors of named weights by hand; equal ends are wise"
    off = {"first": 1.0, "last": 1.0}
    search = {"first": (0.0, 0.9)}
    bounds = {"first": "[0, 1]", "last": "[0, 1]"}
    needs = frozenset({"line"})

    def __init__(self, first: float = 0.3, last: float = 1.0):
        self.first, self.last = first, last

    def finish(self, weights: Weights, run: Run) -> Weights:
        factors = {name: self.first + (self.last - self.first) * depth for name, depth in depths(list(weights)).items()}
        return {name: run.start[name].lerp(tuned, factors[name]) for name, tuned in weights.items()}
