"""Plain texts to training examples: continued pretraining, with no template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.contract import Example
from harness.files.records import Record
from harness.tokens.tokenizer import Tokens


def encode_texts(tokenizer: Any, records: Sequence[Record], source: str, room: int) -> list[Example]:
    """Return plain texts as examples of at most `room` tokens: a text is cut, never shortened, and ends with the end token.

    A piece begins, unsupervised, with the token before its own (the first with what the evaluation puts before a text: BOS,
    else the end token), so that every token of every text is a target exactly once. Control tokens that a text spells out
    are text.
    """
    before = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    codec = Tokens(tokenizer)
    encoded = codec.encode([codec.spell(record.text) for record in records])
    examples = []
    for record, ids in zip(records, encoded, strict=True):
        tokens = (before, *ids, tokenizer.eos_token_id)
        # pieces overlap by one token: the last target of one is the context of the next
        for number, start in enumerate(range(0, len(tokens) - 1, room - 1)):
            piece = tokens[start : start + room]
            name = f"{record.id}.{number}" if number else record.id
            supervised = (False, *[True] * (len(piece) - 1))
            examples.append(Example(name, piece, supervised, source))
    return examples
