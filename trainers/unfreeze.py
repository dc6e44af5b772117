"""Gradual unfreezing: only the top blocks train at first, then everything, more slowly."""

from torch import nn

from harness.contract import Method, Run, blocks_of


class Unfreeze(Method):
    """Until `until` of the budget is spent the last `layers` blocks (and the final norm) train, then all at rate / `slower`.

    In budget, not epochs: the first stage's steps are cheaper (the backward pass ends at the lowest trained block) and are
    charged so. What begins to train begins with fresh optimizer moments. A head tied to the embeddings rests with them.
    """

    paper = (
        "Howard and Ruder 2018, arXiv:1801.06146, section 3.3 (one more block an epoch, from the top). "
        "@inproceedings{howard2018ulmfit, title={Universal Language Model Fine-tuning for Text Classification}, "
        "author={Howard, Jeremy and Ruder, Sebastian}, booktitle={ACL}, year={2018}}"
    )
    verified = "Which weights train, by trace at every step; the first stage's steps cost less."
    off = {"until": 0.0, "slower": 1.0}
    search = {"until": (0.1, 0.7), "slower": (2.0, 30.0)}
    bounds = {"layers": "[1, inf)", "until": "[0, 1)", "slower": "(0, inf)"}
    unsharded = "what is trained changes on the way, and a sharded optimizer fixes it at the start"

    def __init__(self, layers: int = 1, until: float = 0.3, slower: float = 10.0):
        self.layers, self.until, self.slower = layers, until, slower
        self.low_: frozenset[str] = frozenset()

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        blocks, embeddings = blocks_of(model), model.get_input_embeddings()  # type: ignore[operator]
        low = [embeddings, *list(blocks)[: max(0, len(blocks) - self.layers)]]
        inside = set()
        for module in low:
            inside |= {id(parameter) for parameter in module.parameters()}
        self.low_ = frozenset(name for name, parameter in model.named_parameters() if id(parameter) in inside)
        return model

    def rests(self, name: str, fraction: float) -> bool:
        return fraction < self.until and name in self.low_

    def rate(self, fraction: float) -> float:
        return 1.0 if fraction < self.until else 1.0 / self.slower
