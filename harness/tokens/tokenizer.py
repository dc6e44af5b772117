"""Text to tokens and back. Everything that a model reads in Lethe is tokenised here.

Whatever a user wrote is read as text, never as control tokens. `spell` puts a guard into the names of control tokens in it
("<|im_end|>" in a record), so that the tokenizer does not take them for control; texts with guards are read by a copy of the
tokenizer whose normaliser begins by removing guards. The control tokens that a chat template writes have none and stay
control.

A continuation is tokenised apart from the text before it: no token spans both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain, pairwise
from typing import Any

from harness.errors import PlanError
from harness.text.thoughts import CHANNELS, THINK, Marks, is_mark

GUARD = "\ufdd0"
"""A code point that Unicode reserves: it stands in no text."""


class Tokens:
    """A tokenizer's two directions."""

    def __init__(self, tokenizer: Any, written: str = "", thoughts: Marks = THINK) -> None:
        """`written`: a conversation as the chat template writes it; the added tokens in it are control tokens too.

        `thoughts`: the template's marks of thoughts.
        """
        self.tokenizer = tokenizer
        self._written = written
        self._thoughts = thoughts

        # Control tokens: special ones, and those that the template writes; marks of thoughts are text.
        added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        self.control = {
            name: number
            for name, number in added.items()
            if not self._is_mark(name) and len(name) > 1 and (name in special or name in written)
        }
        """Name -> id of the tokens that are no text."""
        self.names = re.compile("|".join(map(re.escape, sorted(self.control, key=len, reverse=True))) or "(?!)")
        self.start = self._start()
        """What the tokenizer puts before a text of its own accord: BOS, mostly, or nothing."""
        self.start_text = "".join(tokenizer.convert_ids_to_tokens(list(self.start)))

        # Control tokens are silent when tokens become text, the marks of thoughts are not.
        silent = set(tokenizer.all_special_ids) | {added[name] for name in special}
        marks = {added[name] for name in special if self._is_mark(name)}
        if CHANNELS.answer in written:  # thoughts and answer stand in channels, told apart by control tokens alone
            marks |= {added[name] for name in special if name in CHANNELS.open + CHANNELS.close}
        self._silent = silent - marks if marks else None

    def _is_mark(self, name: str) -> bool:
        """Return whether a token is a mark of thoughts, in any model or in this template."""
        return is_mark(name) or name in (self._thoughts.open, self._thoughts.close)

    def _start(self) -> tuple[int, ...]:
        """Without what some tokenizers put behind a text: an end token there would end every prompt."""
        # What stands before "x" is the start; what stands behind it would end every prompt.
        bare = list(self.tokenizer("x", add_special_tokens=False)["input_ids"])
        whole = list(self.tokenizer("x")["input_ids"])
        places = [i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare]
        return tuple(whole[: places[0]]) if places else ()

    def spell(self, text: str) -> str:
        """Return the text with guards: no control token is read in it."""
        return self.names.sub(lambda name: name[0][0] + GUARD + name[0][1:], text)

    def plain(self, text: str) -> str:
        """Return the text without guards, as people read it."""
        return text.replace(GUARD, "")

    def spells(self, text: str) -> bool:
        """Return whether a user's text spells out a control token."""
        return self.names.search(text) is not None

    def encode(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the tokens of each text, without anything the tokenizer would add."""
        texts = list(texts)

        # Texts that spell a control token go through the copy that reads it as text.
        plain = list(dict.fromkeys(text for text in texts if GUARD not in text))
        guarded = list(dict.fromkeys(text for text in texts if GUARD in text))
        by_text: dict[str, list[int]] = {}
        if plain:
            options = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
            by_text |= zip(plain, self.tokenizer(plain, **options)["input_ids"], strict=True)
        if guarded:
            by_text |= zip(guarded, self._read_guarded(guarded), strict=True)
        return [by_text[text] for text in texts]

    def join(self, sequences: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Return the tokens of every piece of each sequence, each piece behind its left neighbour.

        Batched: the texts are many.
        """
        # A piece is read by itself and behind its left neighbour: where both agree on the neighbour, the rest is the piece.
        texts = dict.fromkeys(chain.from_iterable(sequences))
        for pieces in sequences:
            texts |= dict.fromkeys(left + text for left, text in pairwise(pieces))
        ids = dict(zip(texts, self.encode(texts), strict=True))

        # The prompts of a long conversation share most pieces, so each seam is cut once.
        behind_left: dict[tuple[str, str], list[int]] = {}
        joined = []
        for pieces in sequences:
            seams = list(pairwise(["", *pieces]))
            for left, text in seams:
                if (left, text) not in behind_left:
                    behind_left[left, text] = self._behind(left, text, ids)
            joined.append([behind_left[seam] for seam in seams])
        return joined

    def _behind(self, left: str, text: str, ids: dict[str, list[int]]) -> list[int]:
        """Return the tokens of a text that follows `left`, whose tokens are already fixed.

        Tokenizers that mark the beginnings of words must see that the text is a continuation. Where the two would merge across
        the seam, a line break stands in for `left`.
        """
        for anchor in (left, "\n") if left else ():
            missing = [whole for whole in (anchor, anchor + text) if whole not in ids]
            ids.update(zip(missing, self.encode(missing), strict=True))
            if ids[anchor + text][: len(ids[anchor])] == ids[anchor]:
                return ids[anchor + text][len(ids[anchor]) :]
        return ids[text]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; control tokens are silent, the marks of thoughts are not."""
        if self._silent is None:
            return self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        heard = [token for token in tokens if token not in self._silent]
        return self.tokenizer.decode(heard, skip_special_tokens=False)

    def decode_all(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Return the texts of many."""
        return [self.decode(tokens) for tokens in rows]

    def _read_guarded(self, texts: list[str]) -> list[list[int]]:
        encodings = self._guarded.encode_batch(texts, add_special_tokens=False)
        return [[self._moved.get(token, token) for token in encoding.ids] for encoding in encodings]

    @cached_property
    def _guarded(self) -> Any:
        """The tokenizer that removes guards. On what the template writes it must read as the tokenizer does."""
        from tokenizers import Tokenizer

        cure = "remove them from the texts"
        try:
            described = json.loads(self.tokenizer.backend_tokenizer.to_str())
        except Exception as error:  # one that is written in Python, or has parts that are
            raise PlanError(f"texts spell out control tokens, which this tokenizer cannot read as text; {cure}") from error

        # Guards are removed by the normaliser, after control tokens have been looked for.
        removal = {"type": "Replace", "pattern": {"String": GUARD}, "content": ""}
        normaliser = described["normalizer"]
        described["normalizer"] = {"type": "Sequence", "normalizers": [removal, *([normaliser] if normaliser else [])]}
        for token in described["added_tokens"]:
            token["normalized"] &= token["content"] not in self.control
        described |= {"truncation": None, "padding": None}
        self._hide(described["model"])
        guarded = Tokenizer.from_str(json.dumps(described))
        self._moved = {
            number: self.control[token.content]
            for number, token in guarded.get_added_tokens_decoder().items()
            if token.content in self.control
        }

        # The copy must read what the template writes exactly as the tokenizer does.
        read = [self._moved.get(token, token) for token in guarded.encode(self._written, add_special_tokens=False).ids]
        if read != self.encode([self._written])[0]:
            why = "this tokenizer looks for control tokens after normalising, where spelled ones cannot be told apart"
            raise PlanError(f"texts spell out control tokens, and {why}; {cure}")
        return guarded

    def _hide(self, model: dict[str, Any]) -> None:
        """Give control tokens names that no text has: some models find them in their vocabulary too."""
        vocabulary = model["vocab"]
        if isinstance(vocabulary, dict):
            names = [GUARD + name if name in self.control and name != model.get("unk_token") else name for name in vocabulary]
            model["vocab"] = dict(zip(names, vocabulary.values(), strict=True))
            return
        for index, (name, score) in enumerate(vocabulary):
            if name in self.control and index != model.get("unk_id"):
                vocabulary[index] = [GUARD + name, score]
