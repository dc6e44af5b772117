"""Records to training examples, and what is unusual about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from jinja2 import TemplateError

from harness.contract import Example
from harness.errors import PlanError, raise_faults
from harness.files.records import Record
from harness.text.answer_metrics import normalise
from harness.text.thoughts import opens, split_thoughts, unknown_mark

FAULTS_SHOWN = 20
MARK = "mark "
"""Before the name of an unknown mark in the counts."""
MOST_LOST = 0.01
"""Share of answers that may not come back from their tokens."""


@dataclass(frozen=True)
class Pieces:
    """Pieces of text that become one example, and which of them are trained."""

    name: str
    texts: list[str]
    """Prompt (in one piece or more), answer, stop, and so on."""
    supervised: list[bool]
    answers: Sequence[int]
    """The places of the answers."""


def encode_records(template: Any, records: Sequence[Record], source: str, room: int) -> list[Example]:
    """Return the examples of conversations through a `ChatTemplate`, in order; what was cut or unusual becomes its notes.

    Raises PlanError with all records that the template refuses, and where more than 1 % of the answers do not come back.
    """
    if room < 8:
        raise PlanError(f"max_length {room} leaves no room for prompt and answer; give at least 8 tokens")
    seen: Counter[str] = Counter()
    sequences = _all_sequences(template, records, seen)
    if seen["changed"] > MOST_LOST * seen["answers"]:
        cure = "take a tokenizer whose template leaves answers alone, or remove chat_template to ask in the plain form"
        raise PlanError(
            f"the chat template writes {seen['changed']:,} of {seen['answers']:,} answers in {source} records otherwise than"
            f" they stand there; {cure}"
        )

    # All texts at once: tokenizers are fast in batches.
    joined = template.tokens.join([sequence.texts for sequence in sequences])

    _check_answers(template, sequences, joined, source)
    examples = []
    unknown = unknown_of(template.tokenizer)
    for sequence, ids in zip(sequences, joined, strict=True):
        tokens = list(chain.from_iterable(ids))
        seen["unknown"] += unknown is not None and unknown in tokens
        supervised = []
        for piece, is_trained in zip(ids, sequence.supervised, strict=True):
            supervised += [is_trained] * len(piece)
        tokens, supervised = fit(tokens, supervised, room, template.tokenizer.bos_token_id, seen)
        examples.append(Example(sequence.name, tuple(tokens), tuple(supervised), source))
    for text in _counted(seen, len(records), len(examples), source, room, template):
        template.note(text)
    return examples


def _all_sequences(template: Any, records: Sequence[Record], seen: Counter[str]) -> list[Pieces]:
    """Return the pieces of all records, in order. Raises PlanError with all that the template refuses."""
    faults: list[str] = []
    sequences: list[Pieces] = []
    for record in records:
        try:
            sequences += _sequences(template, record, seen)
        except TemplateError as error:
            faults.append(f"{record.origin}: the chat template refuses it ({error}); mend its turns or remove it")

    # All faults together, but not a screen full of the same one.
    if len(faults) > FAULTS_SHOWN:
        faults[FAULTS_SHOWN:] = [f"and {len(faults) - FAULTS_SHOWN:,} more records the chat template refuses"]
    raise_faults(faults)
    return sequences


def _check_answers(template: Any, sequences: Sequence[Pieces], joined: Sequence[Any], source: str) -> None:
    """Raise PlanError where trained answers do not come back from their tokens: they would be trained as something else."""
    answers: list[str] = []
    answer_tokens: list[Sequence[int]] = []
    for sequence, ids in zip(sequences, joined, strict=True):
        trained = [number for number in sequence.answers if sequence.supervised[number]]
        answers += [sequence.texts[number] for number in trained]
        answer_tokens += [ids[number] for number in trained]
    check_return(template, answers, answer_tokens, source)


def _sequences(template: Any, record: Record, seen: Counter[str]) -> list[Pieces]:
    """Return the record's pieces: one sequence if the template is prefix-stable on it, else one per trained answer."""
    # Everything after the last answer is asked of nobody.
    answers = [index for index, turn in enumerate(record.messages) if turn.role == "assistant"]
    trained = [record.messages[index].trained for index in answers]
    steps = template.steps(record.messages[: answers[-1] + 1])
    seen["special"] += any(template.tokens.spells(turn.content) for turn in record.messages)
    for index, step in zip(answers, steps, strict=True):
        content = record.messages[index].content
        _count_thoughts(content, seen)
        seen["answers"] += 1
        seen["changed"] += _words(split_thoughts(content)[1]) not in _words(template.tokens.plain(step.answer))
    seen["unanswered"] += record.messages[-1].role != "assistant"
    seen["foreign"] += sum(step.foreign for step in steps)
    texts = [[*step.lead, step.answer, template.stop_text] for step in steps]

    # One example with all answers, where the template does not rewrite earlier turns.
    if steps[-1].stable:
        supervised = []
        for is_trained in trained:
            supervised += [False, is_trained, is_trained]
        return [Pieces(record.id, texts[-1], supervised, range(1, len(texts[-1]), 3))]
    seen["unstable"] += 1
    apart = [pieces for pieces, on in zip(texts, trained, strict=True) if on]
    return [Pieces(record.id, texts, [False] * (len(texts) - 2) + [True, True], [len(texts) - 2]) for texts in apart]


def _words(text: str) -> str:
    """Return a text without its blanks, which templates may strip."""
    return "".join(text.split())


def _count_thoughts(answer: str, seen: Counter[str]) -> None:
    """Count what an answer holds of thoughts, and what only looks like them; the first such mark is kept in the count."""
    thoughts, rest = split_thoughts(answer)
    seen["thoughts"] += thoughts is not None
    seen["unended"] += opens(rest)
    mark = unknown_mark(rest)
    if mark and not opens(rest):
        seen[f"{MARK}{mark}"] += 1


def check_return(template: Any, texts: Sequence[str], tokens: Sequence[Sequence[int]], source: str) -> None:
    """Compare answers with the text of their tokens, as a scorer reads both.

    A tokenizer without their characters, or one that strips accents, gives other words; one that lowers case does not.
    """
    lost = 0
    alike = 0
    first = ("", "")
    for text, back in zip(map(template.tokens.plain, texts), template.tokens.decode_all(tokens), strict=True):
        if text.strip() == back.strip():
            continue

        # What a scorer would call the same is no loss.
        if normalise(text) == normalise(back):
            alike += 1
            continue
        first = first if lost else (text.strip()[:60], back.strip()[:60])
        lost += 1
    of = f"of {len(texts):,} answers in {source} records"
    if alike:
        template.note(f"{alike:,} {of} come back from their tokens written otherwise: case, blanks or marks, as scorers allow.")
    if lost > MOST_LOST * len(texts):
        raise PlanError(
            f"{lost:,} {of} do not come back from their tokens ('{first[0]}' comes back as '{first[1]}'): the tokenizer lacks "
            "their characters; take a model whose tokenizer has them, or remove these records"
        )
    if lost:
        template.note(f"{lost:,} {of} do not come back from their tokens, as '{first[0]}': no model can say them.")


def check_known(template: Any, examples: Sequence[Example], source: str) -> None:
    """Count the tokens of plain texts that the tokenizer does not know. Raises PlanError where they are more than 1 %."""
    unknown = unknown_of(template.tokenizer)
    if unknown is None or not examples:
        return
    counts = [example.tokens.count(unknown) for example in examples]
    share = sum(counts) / sum(map(len, examples))
    summary = f"{sum(counts):,} tokens of the {source} texts ({share:.2%}) are {template.tokenizer.unk_token}"
    if share > MOST_LOST:
        cure = "take a model whose tokenizer has their characters, or remove these texts"
        raise PlanError(f"{summary}: more than {MOST_LOST:.0%} of what would be trained is lost; {cure}")
    if sum(counts):
        template.note(f"{summary}: the tokenizer lacks their characters.")


def unknown_of(tokenizer: Any) -> int | None:
    """Return the id that stands for what a tokenizer does not know; None where that is another token too."""
    unknown = tokenizer.unk_token_id
    return None if unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id) else unknown


def fit(
    tokens: list[int], supervised: list[bool], room: int, bos: int | None, seen: Counter[str]
) -> tuple[list[int], list[bool]]:
    """Return at most `room` tokens that keep the first answer, or as much of it as fits half the room.

    What is too long loses its end (the stop token with it: a cut answer never learns to stop). Only where the prompt
    leaves the first answer no such place does the prompt lose its beginning, a BOS excepted.
    """
    start = supervised.index(True)
    answer = next((i for i, s in enumerate(supervised[start:]) if not s), len(supervised) - start)

    # The first answer has priority: the prompt loses its beginning only where the answer has no room.
    left = start + min(answer, room // 2) - room
    if left > 0:
        keep = int(tokens[0] == bos)
        tokens = tokens[:keep] + tokens[left + keep :]
        supervised = supervised[:keep] + supervised[left + keep :]
        seen["prompts"] += 1
        seen["prompts most"] = max(seen["prompts most"], left)
    if len(tokens) > room:
        # What comes behind the last supervised token would be read for nothing.
        last = max(i for i in range(room) if supervised[i]) + 1
        seen["ends"] += 1
        seen["ends most"] = max(seen["ends most"], len(tokens) - last)
        tokens = tokens[:last]
        supervised = supervised[:last]
    return tokens, supervised


def _counted(seen: Counter[str], n: int, examples: int, source: str, room: int, template: Any) -> Iterator[str]:
    """Yield the counters of one call as notes."""
    of = f"of {n:,} {source} records"
    cut = f"of {examples:,} {source} examples" if seen["unstable"] else of
    apart = f"are one example an answer ({examples:,} examples in all): the chat template changes earlier turns"
    foreign = f"answers in {n:,} {source} records do not begin as the chat template begins one: written as they stand"
    ends = f"were longer than {room:,} tokens: their ends were cut (at most {seen['ends most']:,} tokens lost)"
    prompts = f"had prompts too long for {room:,} tokens: cut from the left (at most {seen['prompts most']:,} lost)"
    thoughts = "left out, as the chat template skips thoughts" if template.drops_thoughts else "trained"

    # Marks are counted by their spelling, so that the note can name them.
    marks = {name.removeprefix(MARK): number for name, number in seen.items() if name.startswith(MARK)}
    seen["marks"] = sum(marks.values())
    for what, text in {
        "unstable": f"{of} {apart}",
        "foreign": foreign,
        "changed": f"answers in {n:,} {source} records are written by the chat template otherwise than they stand there",
        "special": f"{of} spell out a special token in their text: it is read as text, not as that token",
        "unknown": f"{cut} have characters that the tokenizer lacks: the model reads {template.tokenizer.unk_token} there",
        "thoughts": f"answers in {n:,} {source} records begin with thoughts: these are {thoughts}, and not scored",
        "unended": f"answers in {n:,} {source} records open a thought that never ends: nothing in them can be scored",
        "marks": f"answers in {n:,} {source} records have unknown marks, like those of thoughts ({', '.join(marks)}): what "
        "they mark is trained and scored as the answer",
        "unanswered": f"{of} end in turns that nobody answers: these are not trained",
        "prompts": f"{cut} {prompts}",
        "ends": f"{cut} {ends}",
    }.items():
        if seen[what]:
            yield f"{seen[what]:,} {text}."
