"""Codec: what evaluation asks, as tokens, and what models answer, as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from harness.decoding.prefix_tree import Ids
from harness.files.turns import Turn
from harness.text.thoughts import in_known_marks, without_thoughts
from harness.tokens.rendered import Rendered


class Codec:
    """Texts to tokens and back as evaluation needs them, remembered: every run of a comparison is asked the same texts.

    Prompts that a template rendered have the tokens of training (harness/tokens/chat_template.py). Other texts are plain:
    nothing in them is a control token, and where one begins a sequence it begins as the tokenizer begins texts, or as the
    template does.
    """

    def __init__(self, tokenizer: Any, template: Any) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.tokens = template.tokens
        self.stops = template.stops(None)
        bos: int | None = tokenizer.bos_token_id
        self.prefix: int = tokenizer.eos_token_id if bos is None else bos

        # Some templates begin with BOS and some do not; a plain text gets what the template gives,
        # so that both are asked alike.
        """What stands before a text that has no prompt, in training as here."""
        opens_so = bos is not None and template.encode_prompt((Turn("user", "x"),))[:1] == [bos]
        self.start: Ids = self.tokens.start or ((self.prefix,) if opens_so else ())
        """What stands before a plain text that begins a sequence; a text that spells it out has it once."""
        self._start_texts = tuple({tokenizer.decode(list(self.start)), tokenizer.decode([self.prefix])} - {""})
        self.tokens_of: dict[Any, Any] = {}
        self._enders: dict[tuple[Any, ...], Callable[[list[int]], bool]] = {}
        self._pieces: list[str] = []

    def encode(self, texts: Sequence[str], whole: bool = True) -> list[Ids]:
        """Return the token ids of prompts and plain texts. `whole`: a plain text begins a sequence."""
        # Rendered prompts know their conversation, and are never parsed again from their
        # characters.
        self.learn([text for text in texts if isinstance(text, Rendered)], self.template.prompt_tokens, _conversation_of)
        self.learn([text for text in texts if not isinstance(text, Rendered)], self._plain, str)
        start = self.start if whole else ()
        return [self.tokens_of[_conversation_of(t)] if isinstance(t, Rendered) else start + self.tokens_of[t] for t in texts]

    def learn(self, texts: Sequence[Any], encode: Callable[[Any], Sequence[Any]], key: Callable[[Any], Any]) -> None:
        """Tokenise and remember the texts that are new."""
        new = {key(text): text for text in texts if key(text) not in self.tokens_of}
        self.tokens_of |= zip(new, encode(list(new.values())), strict=True)

    def _plain(self, texts: Sequence[str]) -> list[Ids]:
        """Return the tokens of plain texts: nothing in them is a control token, but for a beginning that they bring along."""
        bare = []
        for text in texts:
            # A start that the text spells out itself must not stand twice.
            begun = next((start for start in self._start_texts if text.startswith(start)), "")
            bare.append(self.tokens.spell(text[len(begun) :]))
        return [tuple(ids) for ids in self.tokens.encode(bare)]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of an answer, its thoughts in marks that scorers know."""
        return in_known_marks(self.tokens.decode(tokens), self.template.marks)

    def read(self, tokens: Sequence[int], prompt: str = "") -> str:
        """Return the text of an answer as a scorer reads it: what comes after its thoughts."""
        return without_thoughts(self.decode(tokens), self.inside(prompt))

    def inside(self, prompt: str) -> bool:
        """Return whether the answer to a prompt begins inside a thought."""
        return isinstance(prompt, Rendered) and prompt.thinking and self.template.thoughtful.opens_thoughts

    def ender(self, until: tuple[str, ...], inside: bool = False) -> Callable[[list[int]], bool]:
        """Return what tells after each new token whether an `until` text is complete. `inside`: answers begin in a thought."""
        if (until, inside) not in self._enders:
            self._enders[until, inside] = self._make_ender(until, inside)
        return self._enders[until, inside]

    def endings(self, until: Sequence[str]) -> tuple[set[int], list[str]]:
        """Return `until` as tokens, where it names special ones (decoding leaves them out), and as the texts that remain."""
        # Decoding leaves special tokens out, so an ending that names one would never be found in
        # the text.
        special = {token.content: number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return {special[text] for text in until if text in special}, [text for text in until if text and text not in special]

    def _make_ender(self, until: tuple[str, ...], inside: bool) -> Callable[[list[int]], bool]:
        # Only special tokens end this answer: no need to decode.
        ids, texts = self.endings(until)
        if not texts:
            return lambda tokens: tokens[-1] in ids

        # Decoding is slow, so it waits for a token that could end a text: one with its last character, or half a character.
        self._pieces = self._pieces or self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
        ends = {text[-1] for text in texts} | {"\ufffd"}
        suspects = {i for i, piece in enumerate(self._pieces) if not piece.strip() or not ends.isdisjoint(piece)}

        def ended(tokens: list[int]) -> bool:
            if tokens[-1] in ids:
                return True
            if tokens[-1] not in suspects:
                return False
            text = without_thoughts(self.decode(tokens), inside)

            # An ending inside a thought ends nothing: scorers read what comes after it.
            return any(stop in text for stop in texts)

        return ended


def encode_pairs(codec: Codec, pairs: Iterable[tuple[str, str]]) -> list[tuple[Ids, Ids]]:
    """Return the token ids of each (context, continuation): answers to rendered prompts as training has them.

    Behind a plain context both are read as one text and cut where the context's own tokens end, blanks at its end
    belonging to the continuation, as lm-eval does. Behind none stands what training puts before a text.
    """
    pairs = list(pairs)
    # Rendered pairs keep the tokens that training has for the same answer, whatever the tokenizer
    # merges.
    codec.learn([pair for pair in pairs if isinstance(pair[0], Rendered)], codec.template.choice_tokens, _answered)

    # All plain pairs are encoded at once.
    moved = [_moved(*pair) for pair in pairs if not isinstance(pair[0], Rendered)]
    contexts = codec.encode([context for context, _ in moved])
    whole = codec.encode([context + continuation for context, continuation in moved], whole=False)
    plain = []
    for (context, _), ids, joined in zip(moved, contexts, whole, strict=True):
        plain.append((ids, (codec.start + joined)[len(ids) :]) if context else ((codec.prefix,), joined))

    # Each pair back to its place.
    next_plain = iter(plain)
    return [codec.tokens_of[_answered(pair)] if isinstance(pair[0], Rendered) else next(next_plain) for pair in pairs]


def _conversation_of(prompt: Any) -> Any:
    return prompt.asked


def _answered(pair: tuple[Any, str]) -> Any:
    return pair[0].asked, pair[1]


def _moved(context: str, continuation: str) -> tuple[str, str]:
    """Return a plain context without the blanks at its end, which go to the continuation."""
    bare = context.rstrip()
    return bare, context[len(bare) :] + continuation
