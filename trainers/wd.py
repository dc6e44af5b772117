"""Weight decay to zero: the contrast to decay towards the base."""

from torch import Tensor

from harness.contract import Method


class Wd(Method):
    """theta <- theta - rate * decay * theta at each step, as AdamW: on effective weights it pulls away from the base.

    With adapters the pull on W0 + delta goes to their factors by the chain rule. AdamW's own decay (the plan's `weight_decay`)
    shrinks the factors themselves, which is a decay towards the base: another thing.
    """

    paper = (
        "Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2. "
        "@inproceedings{loshchilov2019adamw, title={Decoupled Weight Decay Regularization}, author={Loshchilov, Ilya and "
        "Hutter, Frank}, booktitle={ICLR}, year={2019}}"
    )
    verified = "equals AdamW's own decay; steps on two parameters by hand"
    off = {"decay": 0.0}
    search = {"decay": (0.01, 10.0)}
    bounds = {"decay": "[0, inf)"}
    decoupled = True  # within the step that other methods wrap: what `ssu` keeps still is not pulled

    def __init__(self, decay: float = 0.1):
        self.decay = decay

    def pull(self, name: str, theta: Tensor, start: Tensor) -> Tensor:
        return self.decay * theta
