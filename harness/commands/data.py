"""`lethe data`: look at training data as the base sees it, and clean, order or score it. What methods do, done to a file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.alike.clusters import first_alike, near_clusters
from harness.alike.grams import words
from harness.bundled import embedded
from harness.contract import Batch, Example
from harness.decoding.difficulty import Reading, read, token_scores
from harness.decoding.open_model import open_base
from harness.errors import PlanError
from harness.files.records import Record, read_records
from harness.files.writers import check_target, rewrite
from harness.losses.step_sums import ZONES
from harness.models.batches import collate, micro_batches
from harness.models.forward import nll
from harness.tokens.chat_template import ChatTemplate
from harness.toolbox import by_difficulty
from harness.visible import visible

LONGEST = 2048
"""Tokens of a record that are read, at most: what training reads by default."""
MICRO = 8192
"""Padded tokens of one forward pass."""


@dataclass
class DataFile:
    """A file's records, and how the base reads them."""

    source: str
    model: str

    @cached_property
    def records(self) -> list[Record]:
        return read_records(self.source)

    @cached_property
    def unique(self) -> dict[str, Record]:
        """Id -> the first record of that content."""
        # Reversed, so that the first of equal records is the one that stays.
        return {record.id: record for record in reversed(self.records)}

    @cached_property
    def base(self) -> Any:
        return open_base(self.model)

    @cached_property
    def template(self) -> ChatTemplate:
        return ChatTemplate(self.base.tokenizer)

    @cached_property
    def examples(self) -> list[Example]:
        """Every content once, in the file's order."""
        # A record that stands twice is read once.
        contents = dict.fromkeys(record.id for record in self.records)
        return self.template.encode_all([self.unique[name] for name in contents], max_length=min(self.base.max_length, LONGEST))

    @cached_property
    def device(self) -> torch.device:
        """Where the base reads them."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def reading(self) -> Reading:
        """A record each, in the file's order; the answers of one record count together."""
        model = self.base.load(torch.float32, self.device)

        @torch.no_grad()
        def scores(batch: Batch) -> torch.Tensor:
            return token_scores(*nll(model, batch))

        groups = micro_batches(self.examples, MICRO)
        reading = read(self.examples, (collate(group, self.device) for group in groups), scores)

        # A record may be several examples (answers trained apart): its tokens count together.
        parts: dict[str, list[torch.Tensor]] = defaultdict(list)
        for example, tokens in zip(self.examples, reading.tokens, strict=True):
            parts[example.id].append(tokens)
        return Reading([torch.cat(parts[record.id], 1) for record in self.records])

    def repeats(self, similar: float) -> dict[int, int]:
        """Return the index of each record that repeats an earlier one, exactly or nearly -> the index of that one."""
        first_place: dict[str, int] = {}
        for index, record in enumerate(self.records):
            first_place.setdefault(record.id, index)

        # What is alike is found among contents, and then said of records, which may stand several
        # times.
        leaders = first_alike(self.examples, self.base.tokenizer, similar)
        leader = {e.id: self.examples[first].id for e, first in zip(self.examples, leaders, strict=True)}
        firsts = [first_place[leader[record.id]] for record in self.records]
        return {index: first for index, first in enumerate(firsts) if first != index}


def contradictions(records: Iterable[Record]) -> list[list[Record]]:
    """Return groups of different records that ask the same, or nearly the same, and whose last answers differ in their
    words.
    """
    # Equal records cannot contradict each other.
    different = {record.id: record for record in records}
    questions: dict[str, str] = {}
    answers: dict[str, list[str]] = {}
    for name, record in different.items():
        last = record.answer
        questions[name] = "\n".join(turn.content for turn in record.messages[:last] if turn.role != "system")
        answers[name] = words(record.messages[last].content) or [record.messages[last].content.strip()]
    groups: dict[str, list[str]] = defaultdict(list)
    for name, cluster in near_clusters(questions).items():
        groups[cluster].append(name)

    # Answers in the same words agree, however they are set.
    clashes = [names for names in groups.values() if len({tuple(answers[name]) for name in names}) > 1]
    return [[different[name] for name in names] for names in clashes]


# --- commands --------------------------------------------------------------------------------------------------------


def inspect(source: str, model: str | None, limit: int) -> None:
    """Print lengths, token losses under the base, copies, contradictions, and records that look wrong."""
    console = Console()
    file = DataFile(source, model or embedded().model)
    console.print(f"[bold]{escape(visible(source))}[/]: {len(file.records):,} records, read by {escape(visible(file.model))}")
    console.print(lengths(file.examples))
    console.print(zones(file.reading))

    # Copies and near-duplicates, contradictions, then what the base finds strange.
    repeats = file.repeats(0.85)
    copies = len(file.records) - len(file.unique)
    console.print(
        f"[bold]repeated records[/]: {copies:,} exact copies, {len(repeats) - copies:,} near-duplicates of earlier ones"
    )
    lines = [f"{file.records[index].origin} repeats {file.records[first].origin}" for index, first in repeats.items()]
    listed(console, lines, limit)
    clashes = contradictions(file.records)
    console.print(f"[bold]contradictions[/]: {len(clashes):,} questions, or nearly the same ones, with different answers")
    listed(console, [" | ".join(f"{r.origin}: {shown(r)}" for r in group[:4]) for group in clashes], limit)
    wrong = file.reading.wrong
    hard = file.reading.hard
    console.print(f"[bold]to review[/]: in {sum(wrong):,} records the base is sure of something else, worst first")
    console.print("  (what a base does not know it cannot doubt: this finds wrong answers only where it knows the domain)")

    # Worst first: a reviewer reads the beginning of the list.
    order = file.reading.suspicion.argsort(descending=True, stable=True).tolist()
    scores = file.reading.suspicion.tolist()
    listed(console, [f"{scores[i]:.1f}  {file.records[i].origin}: {shown(file.records[i])}" for i in order if wrong[i]], limit)
    console.print(f"{sum(hard):,} records hold what the base does not know, and knows it does not")
    for note in file.template.notes:
        console.print(f"note: {escape(visible(note, None))}")


def dedup(source: str, target: str, model: str | None, threshold: float) -> None:
    """Write the file without records that repeat an earlier one, and list these."""
    # Below this, candidates are not found reliably (harness/alike/clusters.py).
    if threshold < 0.85:
        raise PlanError(f"threshold is a similarity from 0.85 on (candidates are found from there), not {threshold:g}")
    # Refused before the base is read, which takes longer.
    check_target(source, target)
    file = DataFile(source, model or embedded().model)
    repeats = file.repeats(threshold)
    kept = [index for index in range(len(file.records)) if index not in repeats]
    rewrite(source, target, kept)
    for index, first in repeats.items():
        print(visible(f"{file.records[index].origin} is left out: it repeats {file.records[first].origin}"))
    print(f"{visible(target)}: {len(kept):,} of {len(file.records):,} records; {len(repeats):,} left out")


def sort(source: str, target: str, model: str | None, order: str, by: str, seed: int) -> None:
    """Write the file ordered by how hard the base finds its records."""
    check_target(source, target)
    file = DataFile(source, model or embedded().model)
    difficulty = file.reading.loss if by == "loss" else -file.reading.similarity
    ranked = difficulty.argsort(stable=True).tolist()
    places = by_difficulty(ranked, order, torch.Generator().manual_seed(seed))
    rewrite(source, target, places)
    print(f"{visible(target)}: all {len(places):,} records, {order} order by {by}")


def score(source: str, target: str, model: str | None) -> None:
    """Write the file with the base's loss, similarity, suspicion and flag as more fields of each record."""
    check_target(source, target)
    reading = DataFile(source, model or embedded().model).reading
    columns = {"lethe_loss": reading.loss, "lethe_similarity": reading.similarity, "lethe_suspicion": reading.suspicion}
    numbers = {name: [round(value, 6) for value in column.tolist()] for name, column in columns.items()}

    # A flag says which way the base disagrees: it is sure of something else, or it does not know.
    flags = ["wrong" if w else "hard" if h else "" for w, h in zip(reading.wrong, reading.hard, strict=True)]
    more = [{name: column[i] for name, column in numbers.items()} | {"lethe_flag": flags[i]} for i in range(len(flags))]
    rewrite(source, target, range(len(flags)), more)
    print(f"{visible(target)}: all {len(flags):,} records with {', '.join(more[0])}; {Counter(flags)['wrong']:,} look wrong")


# --- what is shown -------------------------------------------------------------------------------------------------------


def lengths(examples: Sequence[Example]) -> Table:
    """Return tokens of prompts and answers."""
    table = Table("tokens", "least", "median", "95 %", "most", "all")
    answers = torch.tensor([sum(example.supervised) for example in examples], dtype=torch.float64)
    whole = torch.tensor([len(example) for example in examples], dtype=torch.float64)
    for name, values in (("prompt", whole - answers), ("answer", answers), ("record", whole)):
        middle = [values.quantile(q).item() for q in (0.0, 0.5, 0.95, 1.0)]
        table.add_row(name, *(f"{value:,.0f}" for value in (*middle, values.sum().item())))
    return table


def zones(reading: Reading) -> Table:
    """Return the shares of supervised tokens by their loss under the base."""
    losses = torch.cat([tokens[0] for tokens in reading.tokens])
    table = Table("token loss, nats", "tokens", "share", title=f"mean token loss under the base: {losses.mean():.3f} nats")
    for low, high in pairwise(ZONES):
        inside = int(((losses >= low) & (losses < high)).sum())
        table.add_row(f"{low:g} to {high:g}", f"{inside:,}", f"{inside / len(losses):.1%}")
    return table


def shown(record: Record) -> str:
    """Return the last question and its answer, on one line, cut."""
    turns = [" ".join(turn.content.split()) for turn in record.messages[-2:]]
    return " -> ".join(text if len(text) <= 100 else text[:99] + "…" for text in turns)


def listed(console: Console, lines: Sequence[str], limit: int) -> None:
    for line in lines[:limit]:
        console.print(f"  {escape(visible(line))}")
    if len(lines) > limit:
        console.print(f"  and {len(lines) - limit:,} more; --limit shows them")
