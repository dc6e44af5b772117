"""Interpolation with the base after training (WiSE-FT): no training cost."""

from harness.contract import Method, Run, Weights


class Wise(Method):
    """theta = (1 - alpha) theta0 + alpha theta1 on effective weights; alpha 1 is the tuned model, 0 the base."""

    paper = (
        "Wortsman et al. 2021, arXiv:2109.01903. "
        "@article{wortsman2021wise, title={Robust fine-tuning of zero-shot models}, author={Wortsman, "
        "Mitchell and others}, journal={arXiv:2109.01903}, year={2021}}"
    )
    verified = "alpha 0 is the base's hash, 1 the tuned weights, 0.5 their mean"
    off = {"alpha": 1.0}
    search = {"alpha": (0.1, 0.9)}
    bounds = {"alpha": "[0, 1]"}
    needs = frozenset({"line"})

    def __init__(self, alpha: float = 0.5):
        self.alpha = alpha

    def finish(self, weights: Weights, run: Run) -> Weights:
        return {name: run.start[name].lerp(tuned, self.alpha) for name, tuned in weights.items()}
