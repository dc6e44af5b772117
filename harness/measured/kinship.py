"""How a tuned model differs from the base: tokens, template, context, architecture. What differs is said, not guessed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from harness.checkpoints.weight_files import some
from harness.models.base_model import BaseModel
from harness.models.forward import vocabulary

PROBE = (
    "The quick brown fox, isn't it?  Two  spaces.",
    " leading blank\n\n\ttab and lines\r\n",
    "1234567 3.14 −5 %, €20 x = a_b[0] + {c}; // code",
    "Straße naïve ñandú ﬁne e\u0301 Ω Привет",
    "金融法律 医学 こんにちは 한국어 مرحبا 🙂",
    "UPPER lower MiXeD http://a.b/c?d=e&f=g",
)
"""Texts whose tokens two tokenizers of one vocabulary must agree on."""
SHAPE = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")


@dataclass(frozen=True)
class Kinship:
    """How a tuned model differs from the base: one sentence per part, empty if that part is equal."""

    architecture: str
    tokens: str
    template: str
    context: str
    width: str

    @property
    def asked_alike(self) -> bool:
        """Whether the base's own requests can be put to it."""
        # The base's requests are tokens: they mean the same only with the same tokens, template and
        # room.
        return not (self.tokens or self.template or self.context or self.width)

    @property
    def has_distance(self) -> bool:
        """Whether its distance from the base is defined: both say how likely the same tokens are."""
        return not (self.tokens or self.width)

    @property
    def notes(self) -> list[str]:
        """What the report must say."""
        lines = [text for text in (self.architecture, self.tokens, self.template, self.context, self.width) if text]
        if not self.has_distance:
            lines.append("its distance from the base and its held-out loss are left out: they are sums over the same tokens.")
        return lines


def kinship(base: BaseModel, config: Any, model: Any, tokenizer: Any, length: int) -> Kinship:
    """Compare a tuned model, its tokenizer and the tokens it can attend to with the base's; `config`: the base's."""
    return Kinship(
        _architecture(base, config, model),
        _tokens(base.tokenizer, tokenizer),
        _template(base.tokenizer, tokenizer),
        "" if length == base.max_length else f"attends to {length:,} tokens, the base to {base.max_length:,}.",
        _width(config, model),
    )


def _architecture(base: BaseModel, config: Any, model: Any) -> str:
    theirs, ours = config.get_text_config(), model.config.get_text_config()
    shapes = [[getattr(config_of_model, name, None) for name in SHAPE] for config_of_model in (theirs, ours)]
    # Dropout and the like may differ; what is computed with does not.
    if config.model_type == model.config.model_type and shapes[0] == shapes[1]:
        return ""
    size = sum(parameter.numel() for parameter in model.parameters())
    kinds = f"{model.config.model_type} of {size:,} parameters, the base {config.model_type} of {base.parameters:,}"
    return f"another architecture or size ({kinds}): this compares two models, it does not measure a tuning of this base."


def _width(config: Any, model: Any) -> str:
    rows, ours = config.get_text_config().vocab_size, vocabulary(model)
    return "" if rows == ours else f"gives logits of {ours:,} tokens, the base of {rows:,}."


def _tokens(theirs: Any, tuned: Any) -> str:
    """Return how two tokenizers differ; empty where they give the same tokens."""
    before, after = theirs.get_vocab(), tuned.get_vocab()

    # Vocabularies first: with another one nothing else can be compared.
    added = sorted(token for token in after if token not in before)
    removed = sorted(token for token in before if token not in after)
    moved = [token for token, number in after.items() if before.get(token, number) != number]
    if added or removed or moved:
        parts = [f"{len(added):,} added ({some(added)})"] if added else []
        parts += [f"{len(removed):,} removed ({some(removed)})"] if removed else []
        parts += [f"{len(moved):,} under another number"] if moved else []
        return f"another vocabulary: {', '.join(parts)}."
    ends = [name for name in ("bos_token_id", "eos_token_id") if getattr(theirs, name) != getattr(tuned, name)]
    if ends:
        changes = ", ".join(f"{name} is {getattr(tuned, name)}, not {getattr(theirs, name)}" for name in ends)
        return f"other special tokens: {changes}."

    # Merges and normalisation decide cuts, and stand in no list that could be compared.
    if _probed(theirs) != _probed(tuned):
        return "the same vocabulary, but its tokenizer cuts texts otherwise."
    return ""


def _probed(tokenizer: Any) -> list[list[int]]:
    """Return the tokens of the probe texts, alone and as texts begin."""
    tokens = []
    for text in PROBE:
        tokens.append(tokenizer(text, add_special_tokens=False)["input_ids"])
        tokens.append(tokenizer(text, add_special_tokens=True)["input_ids"])
    return tokens


def _template(theirs: Any, tuned: Any) -> str:
    same = json.dumps(theirs.chat_template) == json.dumps(tuned.chat_template)
    return "" if same else "another chat template: it is asked in its own."


def tokens_hash(tokenizer: Any) -> str:
    """Return a hash of a tokenizer's vocabulary, probe and template: of what makes requests of texts."""
    identity = [sorted(tokenizer.get_vocab().items()), _probed(tokenizer), tokenizer.chat_template]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
