"""vLLM as a backend: what it is asked and what becomes of its answers, on a stand-in that answers as the model itself does."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer

from harness.bundled import embedded
from harness.checkpoints.loading import load_model
from harness.commands.compare import compare
from harness.decoding.generate import Prompt, continuations
from harness.decoding.open_model import open_base
from harness.errors import PlanError
from harness.evaluation.backends import answering, check_backend
from harness.evaluation.codec import Codec
from harness.evaluation.evaluator import Evaluator
from harness.evaluation.lm_eval_model import EvaluatedModel
from harness.files.turns import Turn
from harness.tokens.chat_template import ChatTemplate
from tests.evaluation.test_evaluate import tasks

torch.set_num_threads(1)


ENGINE = {
    *("model", "revision", "dtype", "tokenizer", "tokenizer_mode", "tokenizer_revision", "trust_remote_code", "seed"),
    *("tensor_parallel_size", "max_model_len", "max_num_seqs", "quantization", "enable_lora", "max_lora_rank"),
    "gpu_memory_utilization",
}
"""What lm-eval and we give LLM: parameters of it and of EngineArgs in vLLM 0.33.0."""


class LLM:
    """Answers as vLLM would, by the checkpoint it is given."""

    made: list[LLM] = []

    def __init__(self, model, **settings):
        assert settings.keys() <= ENGINE
        self.model, self.settings, self.asked = load_model(model, torch.float32), settings, 0
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.llm_engine = SimpleNamespace(model_config=None)
        LLM.made.append(self)

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None):
        self.asked += len(prompts)
        return [self._answer(list(p["prompt_token_ids"]), s) for p, s in zip(prompts, sampling_params, strict=True)]

    def _answer(self, ids, settings):
        if settings.prompt_logprobs:
            logs = self.model(torch.tensor([ids])).logits[0].log_softmax(-1).detach()
            found = [None]
            for place, token in enumerate(ids[1:]):
                top = int(logs[place].argmax())
                found.append({t: SimpleNamespace(logprob=float(logs[place, t])) for t in {token, top}})
            return SimpleNamespace(prompt_logprobs=found)
        stops = set(settings.stop_token_ids)
        if not settings.ignore_eos:
            known = self.model.generation_config.eos_token_id
            stops |= {self.tokenizer.eos_token_id, *(known if isinstance(known, list) else [known])}

        def ended(tokens):
            text = self.tokenizer.decode(tokens, skip_special_tokens=True)
            return any(stop in text for stop in settings.stop)

        (said,) = continuations(self.model, [Prompt(tuple(ids), settings.max_tokens, ended)], frozenset(stops), 1000)
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=said)])


@dataclass
class SamplingParams:
    """The fields that are used of vLLM's, and what it refuses (0.33.0)."""

    temperature: float = 1.0
    max_tokens: int = 16
    stop: list[str] = field(default_factory=list)
    stop_token_ids: list[int] = field(default_factory=list)
    ignore_eos: bool = False
    prompt_logprobs: int | None = None
    detokenize: bool = True

    def __post_init__(self):
        assert self.temperature == 0 and self.max_tokens >= 1
        assert all(self.stop), "stop cannot contain an empty string"
        assert self.detokenize or not self.stop


@pytest.fixture
def vllm(monkeypatch):
    """A stand-in for the package."""

    def tokenizer(path, **settings):
        return AutoTokenizer.from_pretrained(path)

    parts = {
        "vllm": {"LLM": LLM, "SamplingParams": SamplingParams, "TokensPrompt": dict},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": None},
        "vllm.renderers": {},
        "vllm.renderers.hf": {"resolve_chat_template": lambda **_: None},
        "vllm.tokenizers": {"get_tokenizer": tokenizer},
    }
    for name, values in parts.items():
        module = ModuleType(name)
        module.__dict__.update(values)
        module.__spec__ = importlib.util.spec_from_loader(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.33.0" if name == "vllm" else real(name))
    monkeypatch.setattr(LLM, "made", [])
    yield


def test_vllm_scores_what_the_model_itself_scores(vllm, base):
    template = ChatTemplate(base.tokenizer)
    model = base.load(torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 1.5
    own, other = (Evaluator(tasks(template), template, base.tokenizer, backend=name) for name in ("hf", "vllm"))
    expected, found = own.score(model), other.score(model)
    assert own.key != other.key
    assert len(LLM.made) == 1 and LLM.made[0].asked == 8 + 18 + 8 + 1
    assert LLM.made[0].settings["dtype"] == "float32"
    assert found["output"].fillna("").tolist() == expected["output"].fillna("").tolist()
    assert found["metric"].tolist() == expected["metric"].tolist()
    assert found["score"].to_numpy() == pytest.approx(expected["score"].to_numpy(), abs=1e-4, nan_ok=True)


def test_a_checkpoint_of_the_present_weights_is_what_it_loads_and_it_is_gone_afterwards(vllm, base):
    model = base.load(torch.float32)
    with torch.no_grad():
        model.model.norm.weight *= 3
    with answering("vllm", model, Codec(base.tokenizer, ChatTemplate(base.tokenizer))) as lm:
        assert torch.equal(LLM.made[0].model.model.norm.weight, model.model.norm.weight)
        assert lm.backend == "vllm"
    assert not hasattr(lm, "_engine")


def test_it_stops_where_the_model_itself_stops(vllm):
    base = open_base(embedded().model)  # it answers and stops
    model, codec = base.load(torch.float32), Codec(base.tokenizer, ChatTemplate(base.tokenizer))
    prompt = codec.template.encode_prompt((Turn("user", "Hello!"),))
    own = EvaluatedModel(model, codec)

    def said(lm, *until):
        return lm.continued([Prompt(tuple(prompt), 40, codec.ender(until))], [(40, until)])[0]

    first, second, *_, last = said(own)
    assert last in codec.stops
    codec.stops = frozenset()
    model.generation_config.eos_token_id = [first]  # a stop that is none of ours
    special, word = (base.tokenizer.decode([token]) for token in (last, second))
    with answering("vllm", model, codec) as lm:
        assert said(lm, special, "") == said(own, special, "") and said(own, special, "")[-1] == last
        assert said(lm, word) == said(own, word) == [first, second]


def test_without_vllm_the_error_says_how_to_get_it(tmp_path):
    assert importlib.util.find_spec("vllm") is None
    with pytest.raises(PlanError, match="pip install vllm"):
        compare(data="finance.json", backend="vllm", out=str(tmp_path))
    assert not list(tmp_path.iterdir())
    with pytest.raises(PlanError, match="backend is hf or vllm, not 'tgi'"):
        compare(data="finance.json", backend="tgi", out=str(tmp_path))


def test_recipes_that_end_as_no_plain_checkpoint_are_refused(vllm):
    check_backend("hf", ["prefix"])
    check_backend("vllm")
    with pytest.raises(PlanError, match="prefix"):
        check_backend("vllm", ["prefix"])
