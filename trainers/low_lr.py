"""Plain fine-tuning at a lower learning rate: the baseline to beat."""

from harness.contract import Method


class LowLr(Method):
    """Plain fine-tuning with the learning rate divided by `factor`."""

    paper = (
        "Lin et al. 2025, arXiv:2509.20758: a low learning rate removes most of the general loss at equal domain score. "
        "@article{lin2025sft, title={SFT Doesn't Always Hurt General Capabilities: Revisiting Domain-Specific Fine-Tuning in "
        "LLMs}, author={Lin, Jiacheng and others}, journal={arXiv:2509.20758}, year={2025}}"
    )
    verified = "the rate is plain fine-tuning's over factor"
    off = {"factor": 1.0}
    search = {"factor": (3.0, 30.0)}
    bounds = {"factor": "(0, inf)"}

    def __init__(self, factor: float = 10.0):
        self.factor = factor

    def rate(self, fraction: float) -> float:
        return 1.0 / self.factor
