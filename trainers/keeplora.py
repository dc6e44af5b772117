"""KeepLoRA: low-rank adapters along the domain's gradient, outside each matrix's principal directions; only B trains."""

import torch
from torch import Tensor, nn

from harness.contract import Method, Run, Weights
from harness.toolbox import linear_layers, low_rank, low_rank_layers


class Keeplora(Method):
    """W = W0 + (alpha / r) B A, B = 0 at first; A, frozen, the top r right singular vectors of G (I - V_k V_k^T).

    G is the gradient of the token losses at the base over `batches` steps' worth of domain examples, charged as `importance`;
    V_k the top `k` right singular vectors of W0, 0 for four times r, as PEFT-Arena's code has it. There B begins at the
    gradient's other factors; with A frozen that changes nothing but the start, which here is the base. The paper also keeps
    clear of earlier tasks' features, which this does not. Decompositions are timed, and in no budget.
    """

    paper = (
        "KeepLoRA (ICLR 2026), as in PEFT-Arena's code, arXiv:2605.28819. "
        "@article{huang2026peftarena, title={PEFT-Arena: Understanding Parameter-Efficient Finetuning from a "
        "Stability-Plasticity Perspective}, author={Huang, Yangyi and Peng, Ruotian and Qiu, Zeju and Kang, Jiale and Wen, "
        'Yandong and Sch\\"olkopf, Bernhard and Liu, Weiyang}, journal={arXiv:2605.28819}, year={2026}}'
    )
    verified = "A is orthogonal to V_k and spans the projected gradient by hand; only B moves; the gradient is charged"
    off = None
    adds, folds = "linear", True
    search = {"r": (4, 16)}
    bounds = {"r": "[1, inf)", "alpha": "[1, inf)", "k": "[0, inf)", "batches": "[1, inf)"}
    lr_scale = 10.0  # as for lora
    unsharded = "a matrix's singular vectors are those of the whole of it"

    def __init__(self, r: int = 8, alpha: int = 16, k: int = 0, batches: int = 1, targets: str = "all-linear"):
        self.r, self.alpha, self.k, self.batches, self.targets = r, alpha, k, batches, targets
        self.down_: Weights = {}
        """Weight name -> A (r, in)."""

    def prepare(self, model: nn.Module, run: Run) -> None:
        order = torch.randperm(len(run.domain), generator=run.generator("keeplora")).tolist()
        chosen = [run.domain[index] for index in order[: self.batches * run.batch_size]]
        for batch in run.batches(chosen):
            with run.charged("importance", model, batch, backward=True):
                run.nll(model, batch)[0].sum().backward()
        for name, layer in linear_layers(model).items():
            assert layer.weight.grad is not None
            self.down_[f"{name}.weight"] = self._directions(layer.weight.detach().float(), layer.weight.grad.float())
        model.zero_grad()

    def _directions(self, weight: Tensor, gradient: Tensor) -> Tensor:
        k = min(self.k or 4 * self.r, min(weight.shape) // 2)
        top = torch.linalg.svd(weight, full_matrices=False)[2][:k]
        rest = gradient - (gradient @ top.T) @ top
        return torch.linalg.svd(rest, full_matrices=False)[2][: self.r].contiguous()

    def trainable(self, model: nn.Module, run: Run) -> nn.Module:
        wrapped = low_rank(model, self.targets, r=self.r, lora_alpha=self.alpha)
        for name, layer in low_rank_layers(wrapped).items():
            down = layer.lora_A["default"].weight
            if self.down_:
                with torch.no_grad():
                    down.copy_(self.down_[name])
            down.requires_grad_(False)
        return wrapped

    def state(self) -> Weights:
        return self.down_

    def restore(self, state: Weights) -> None:
        self.down_ = dict(state)
