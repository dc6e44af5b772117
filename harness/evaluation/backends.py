"""What answers an evaluation's requests: the loaded model itself, or vLLM through lm-eval's own class for it.

The calls were checked against the source of vLLM 0.33.0 and lm-eval 0.4.13 by reading: LLM, SamplingParams, its detokenizer,
how it stops, prompt_logprobs (None at the first token; a request for them skips the prefix cache by itself).
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch

from harness.decoding.generate import Prompt
from harness.decoding.likelihood import Continuation
from harness.errors import PlanError
from harness.evaluation.codec import Codec
from harness.evaluation.lm_eval_model import EvaluatedModel
from harness.models.forward import head_dtype

MEMORY = 0.6
"""Share of the GPU that vLLM takes: a guess that leaves room for the model itself and the base, which measure drift."""


def check_backend(name: str, unfolded: Sequence[str] = ()) -> None:
    """Raise PlanError where the backend is not there, or cannot hold a recipe (`unfolded`: those that add modules)."""
    if name != "vllm":
        return
    if find_spec("vllm") is None:
        raise PlanError("backend=vllm needs the package vllm: `pip install vllm` (Linux with a GPU), or leave backend out")
    if unfolded:
        names = ", ".join(unfolded)
        raise PlanError(f"backend=vllm scores plain checkpoints, which {names} do not end as; leave them out, or backend=hf")


@contextmanager
def answering(backend: str, model: Any, codec: Codec, **options: Any) -> Iterator[EvaluatedModel]:
    """Give what lm-eval asks. vLLM is given the model's present weights as a checkpoint, and its memory is freed in the end."""
    if backend == "hf":
        yield EvaluatedModel(model, codec, **options)
        return

    # vLLM loads checkpoints only, so the present weights become one.
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        codec.tokenizer.save_pretrained(folder)
        lm = VllmModel(model, codec, folder, **options)
        try:
            yield lm
        finally:
            lm.close()


class VllmModel(EvaluatedModel):
    """The same requests, token for token, answered by vLLM through lm-eval's class; only rounding may differ."""

    backend = "vllm"

    def __init__(self, model: Any, codec: Codec, folder: str, **options: Any) -> None:
        from lm_eval.models.vllm_causallms import VLLM

        super().__init__(model, codec, **options)

        # vLLM computes in the model's own dtype, so that it rounds as the training's evaluations
        # do.
        limits = {"max_model_len": self.max_length, "gpu_memory_utilization": MEMORY}
        dtype = str(head_dtype(model)).removeprefix("torch.")
        self._engine: Any = VLLM(pretrained=folder, dtype=dtype, batch_size="auto", seed=0, **limits)  # type: ignore[arg-type]
        self.max_length -= 2  # its class cuts what leaves no room for a token more

    def _score(self, continuations: Sequence[Continuation]) -> list[tuple[float, bool]]:
        # An empty continuation is certain and costs nothing; vLLM refuses it.
        scorable = [(None, list(text.prompt), list(text.tokens)) for text in continuations if text.tokens]
        name = ["likelihood", [tokens for _, *tokens in scorable]]
        scored = iter(self.journal.once(name, lambda: self._engine._loglikelihood_tokens(scorable, disable_tqdm=True)))
        return [tuple(next(scored)) if text.tokens else (0.0, True) for text in continuations]

    def continued(self, prompts: Sequence[Prompt], plans: Sequence[tuple[int, tuple[str, ...]]]) -> dict[int, list[int]]:
        stops = sorted(self.stops)
        settings = [self._sampling(limit, until) for limit, until in plans]
        tokens = [list(prompt.tokens) for prompt in prompts]

        def decode() -> list[list[int]]:
            outputs = self._engine._model_generate(tokens, generate=True, sampling_params=settings)
            return [list(output.outputs[0].token_ids) for output in outputs]

        # Named by everything the answers depend on, so a killed evaluation takes up where it was.
        name = ["generation", stops, tokens, [list(plan) for plan in plans]]
        return dict(enumerate(self.journal.once(name, decode)))

    def _sampling(self, limit: int, until: Sequence[str]) -> Any:
        """Greedy, with our stops and no others: vLLM adds those of the checkpoint's generation_config unless EOS is ignored.

        A special token never stands in the text in which vLLM looks for `stop`, and it refuses an empty one.
        """
        from vllm import SamplingParams  # type: ignore[import-not-found]

        # Ends that are tokens are given as tokens: they never stand in the text that vLLM searches.
        ids, texts = self.codec.endings(until)
        stops = sorted(self.stops | ids)
        return SamplingParams(temperature=0, max_tokens=limit, stop=texts, stop_token_ids=stops, ignore_eos=True)

    def close(self) -> None:
        # Python frees the engine's GPU memory only when nothing refers to it.
        del self._engine
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
