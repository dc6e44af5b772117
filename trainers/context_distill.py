"""Context distillation for continued pre-training: what the base says of a text's end when it has read the beginning."""

from dataclasses import replace

import torch
from torch import Tensor

from harness.contract import Batch, Example, Method, Run
from harness.toolbox import divergence_from_base


class ContextDistill(Method):
    """L = mean_t KL(p0(. | a, b_<t) || p(. | b_<t)): of each text only the base reads the beginning a, both the end b.

    What the base makes of a moves into the weights; no token is trained by cross-entropy, so the model stays near what the base
    would say. a has `part` of the text's tokens (a guess of ours: the paper's place of the cut was not found); 0 is plain
    fine-tuning. Made for plain texts (MODE=cpt). Of a conversation the prompt is read by both, and a and b are parts of what is
    trained. Texts of one target stay as they are. Charged: `teacher`, over whole texts.
    """

    paper = (
        "Padmanabhan et al. 2026, arXiv:2602.16093: documents' prefixes and suffixes, frozen teacher, forward KL. "
        "@article{padmanabhan2026disc, title={Updating Parametric Knowledge with Context Distillation Retains Post-Training "
        "Capabilities}, author={Padmanabhan, Shankar and Gul, Mustafa Omer and Goyal, Tanya}, journal={arXiv:2602.16093}, "
        "year={2026}}"
    )
    verified = "the teacher reads the whole text and the student its end; the loss by hand; short texts are trained on"
    off = {"part": 0.0}
    search = {"part": (0.2, 0.8)}
    bounds = {"part": "[0, 1)"}
    needs = frozenset({"base_logits"})

    def __init__(self, part: float = 0.5):
        self.part = part

    def records(self, examples: list[Example], run: Run) -> list[Example]:
        return [self._cut(example) for example in examples]

    def _cut(self, example: Example) -> Example:
        """Return the example's end, behind what is read before its first target; its beginning is shown to the base."""
        targets = [index for index, flag in enumerate(example.supervised) if flag and index]
        begun = int(self.part * len(targets))
        if not begun:
            return example
        first, cut = targets[0], targets[begun]
        return replace(
            example,
            tokens=example.tokens[:first] + example.tokens[cut:],
            supervised=(False,) * first + example.supervised[cut:],
            shown=example.tokens[:cut],
            hidden=first,
        )

    def share(self, batch: Batch) -> Tensor:
        return 1.0 - self._taught(batch)

    def penalty(self, logits: Tensor, batch: Batch, run: Run) -> Tensor:
        return self._taught(batch) * divergence_from_base(logits, batch, run)

    def _taught(self, batch: Batch) -> Tensor:
        """(S,) 1 where a token is taught by the base, 0 where it is trained on as it stands."""
        flags = [float(example.shown is not None) for example in batch.examples]
        return torch.tensor(flags, device=batch.places.device)[batch.rows]
