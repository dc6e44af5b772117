"""A model and a tokenizer small enough to train in a test, built here: no network, no file of the project."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Tests that are started in the background ignore Ctrl-C, and so would the commands that they start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: the others are left for whichever process is free at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Qwen3 of about 50,000 parameters with a byte-level tokenizer and a chat template, saved as a checkpoint."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<bos>", "<s>", "</s>", *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = {"bos_token": "<bos>", "eos_token": "</s>", "pad_token": "<pad>", "additional_special_tokens": ["<s>"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, chat_template=TEMPLATE, model_max_length=256, **special)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Qwen3Config(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=3,
            pad_token_id=0,
        )
        Qwen3ForCausalLM(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def base(tiny_path: str):
    """The tiny model, held in memory as a server of runs holds it: each run trains a copy."""
    import torch

    from harness.decoding.open_model import open_base

    opened = open_base(tiny_path)
    opened.hold(torch.float32, torch.bfloat16)
    return opened


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A domain, a general pool and two suites, all about sums of letters and digits."""
    folder, rng = tmp_path_factory.mktemp("data"), random.Random(0)

    def word(n: int) -> str:
        return "".join(rng.choice("abcdefgh") for _ in range(n))

    domain = [{"instruction": f"Grade {word(6)}", "input": "", "output": rng.choice(["buy", "sell"])} for _ in range(240)]
    general = [{"instruction": f"Echo {(w := word(3))}", "input": "", "output": w} for _ in range(120)]
    suite = [{"id": str(i), "question": f"Echo {(w := word(3))}", "answer": w} for i in range(40)]
    pairs = [{"id": str(i), "question": "", "choices": ["abcd efgh", "hgfe dcba"], "answer": "A"} for i in range(20)]
    for name, rows in (("domain.json", domain), ("general.json", general)):
        (folder / name).write_text(json.dumps(rows))
    for name, rows in (("echo.jsonl", suite), ("pairs.jsonl", pairs)):
        (folder / name).write_text("\n".join(json.dumps(row) for row in rows))
    return {path.stem: str(path) for path in folder.iterdir()}


@pytest.fixture
def unrendered():
    """For tests of reports that look at nothing of the plots."""
    from tests.support.plots import unrendered

    with unrendered():
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data beside the project, where it is present."""
    return Path(__file__).resolve().parents[2] / "shared"
