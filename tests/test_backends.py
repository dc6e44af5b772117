"""vLLM as a backend: what it is asked and what becomes of its answers, on a stand-in that answers as the model itself does."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from harness.backends import answering, check_backend
from harness.compare import compare
from harness.decode import Prompt, continuations
from harness.errors import PlanError
from harness.evaluate import Evaluator
from harness.lm import Codec
from harness.model import load_model
from harness.template import ChatTemplate
from tests.test_evaluate import tasks

torch.set_num_threads(1)


class LLM:
    """Answers as vLLM would, by the checkpoint it is given."""

    made: list[LLM] = []

    def __init__(self, model, **settings):
        self.model, self.settings, self.asked = load_model(model, torch.float32), settings, 0
        self.llm_engine = SimpleNamespace(model_config=None)
        LLM.made.append(self)

    def generate(self, prompts, sampling_params, **_):
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
        prompt = Prompt(tuple(ids), settings.max_tokens, lambda _: False)
        (said,) = continuations(self.model, [prompt], frozenset(settings.stop_token_ids), 1000)
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=said)])


def sampling(temperature=1.0, max_tokens=16, stop=(), stop_token_ids=(), prompt_logprobs=None, detokenize=True):
    assert temperature == 0
    return SimpleNamespace(max_tokens=max_tokens, stop=stop, stop_token_ids=stop_token_ids, prompt_logprobs=prompt_logprobs)


@pytest.fixture
def vllm(monkeypatch):
    """A stand-in for the package."""
    from transformers import AutoTokenizer

    def tokenizer(path, **settings):
        return AutoTokenizer.from_pretrained(path)

    parts = {
        "vllm": {"LLM": LLM, "SamplingParams": sampling, "TokensPrompt": dict},
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
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.20.0" if name == "vllm" else real(name))
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
