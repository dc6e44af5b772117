"""`lethe publish`: a static leaderboard site from published comparisons: comparison.json and table.csv, no run store, no torch.

A board is a model and a data set under one protocol version. A section of it holds what was asked alike (budget, meter, suites
...): only there rows share a table. An entry is a recipe; a newer comparison's takes the place of an older one's, which stays
as its history.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from harness.errors import PlanError, raise_faults
from harness.report.summary import format as shown
from harness.report.verdict.model_card import card, shown_line
from harness.store.comparisons import TABLE, TRADEOFF, VERDICT, read_people, read_reported, read_table, read_verdict
from harness.store.files import read_record, replacing, write_atomic, write_json, write_record
from harness.store.hashes import write_hashed
from harness.store.runs import RunStore
from harness.store.schema import key_of
from harness.visible import csv_text, visible
from harness.vocabulary import Role, Status

HERE = Path(__file__).parent / "site_pages"
STYLE = Path(__file__).parent / "page" / "page.css"
"""The site looks like the page of a report."""
MARKER = ".lethe-site"
"""Says that a folder is a site of ours, and may be replaced."""
PAGE = "report.html"
DATA = (VERDICT, TABLE, "comparison.json")
"""What is published of every comparison: data that was read, written again."""
RENDERED = (PAGE, "table.md", "table.tex")
"""What is rendered from the runs, where they are beside the comparison. Nothing that a stranger rendered is published."""
COLUMNS = ("gain", "change", "retention", "change at matched gain", "retention seen", "retention held out")
PLAIN = ("kl_to_base general", "rep3_word general", "epochs", "flops", "device seconds", "seeds")


@dataclass(frozen=True)
class Published:
    """One comparison as published."""

    folder: Path
    record: dict[str, Any]
    lines: list[dict[str, Any]]
    """Rows of table.csv."""
    verdict: dict[str, Any]
    """verdict.json; empty where an older version wrote the report."""
    site_folder: str
    """Its folder in the site, under files/."""

    @property
    def runs(self) -> Path:
        """The run store beside it, which may be elsewhere."""
        return self.folder.parent / "runs"

    @property
    def has_page(self) -> bool:
        """Whether its report can be rendered here."""
        return self.runs.is_dir()

    @property
    def downloads(self) -> list[str]:
        """The names of its files in the site."""
        data = [name for name in DATA if name != "verdict.json" or self.verdict]
        return [*data, *(RENDERED if self.has_page else ())]

    @property
    def chosen(self) -> str | None:
        """The recipe that its report chooses; None where `lethe export` would refuse it too."""
        return None if self.verdict.get("refusal") else self.verdict.get("row")

    def warnings(self, row: str) -> list[str]:
        """Return what its report warns of, of the whole comparison and of this row."""
        listed = self.verdict.get("warnings") or []
        return [warning["text"] for warning in listed if not warning["rows"] or row in warning["rows"]]

    @property
    def board(self) -> tuple[str, str, str]:
        """The key of its board: protocol, and hashes of model and data."""
        return str(self.record["protocol"]), self.record["model"]["hash"], self.record["data"]["fingerprint"]

    @property
    def question(self) -> str:
        """The key of its section: the question and the scoring."""
        scored = self.record["rows"][0]["evals"].get("final")
        return key_of([self.record.get("question"), scored])


@dataclass(frozen=True)
class Entry:
    """A recipe's newest line, and where it and its older ones come from."""

    line: dict[str, Any]
    source: Published
    history: tuple[tuple[dict[str, Any], Published], ...]

    @property
    def card(self) -> str:
        return f"files/{self.source.site_folder}/cards/{slug(self.line['row'])}.md"


@dataclass(frozen=True)
class Section:
    """Entries that were asked the same."""

    sources: tuple[Published, ...]
    """Its comparisons, newest first."""
    entries: tuple[Entry, ...]
    plot: str
    """Gain against retention of the newest comparison as a data URI, or nothing."""

    @property
    def newest(self) -> Published:
        return self.sources[0]


@dataclass(frozen=True)
class Board:
    """One page."""

    page: str
    record: dict[str, Any]
    sections: tuple[Section, ...]

    @property
    def leader(self) -> dict[str, Any]:
        """The line that the newest comparison's verdict chooses, for the index; empty where it chooses none."""
        newest = self.sections[0].newest
        return next((line for line in newest.lines if line["row"] == newest.chosen), {})


def publish(folders: Sequence[Path], to: Path) -> Path:
    """Write the site; return its first page. Raises PlanError naming every folder that is no published comparison."""
    _refuse_target(to)
    _refuse_folders(folders)
    try:
        published = [_read(folder) for folder in dict.fromkeys(folders)]
        boards = boards_of(published)
    except (KeyError, TypeError, AttributeError) as error:  # a record or table of another make
        named = ", ".join(map(str, folders))
        raise PlanError(f"what is published in {named} lacks a field ({error}): let `lethe report` write it anew") from None
    # Whole or not at all: a reader never sees half of a site.
    with replacing(to) as fresh:
        for comparison in published:
            _files(comparison, fresh / "files" / comparison.site_folder)
        _write_pages(boards, fresh)
        write_atomic(fresh / "leaderboard.csv", csv_text(_leaderboard(boards)))
        (fresh / MARKER).write_text("made by `lethe publish`\n", encoding="utf-8")
    return to / "index.html"


def _refuse_target(to: Path) -> None:
    """Raise PlanError where the site would replace something that is none."""
    if to.is_file():
        raise PlanError(f"'{to}' is a file: give --to a new folder")
    if to.exists() and any(to.iterdir()) and not (to / MARKER).exists():
        raise PlanError(f"'{to}' holds other things than a site of Lethe's: give --to a new folder")


def _refuse_folders(folders: Sequence[Path]) -> None:
    """Raise PlanError with all missing files of a comparison, and with all links, whose targets are not published."""
    missing = []
    links = []
    for folder in folders:
        for name in ("comparison.json", "table.csv"):
            if not (folder / name).is_file():
                missing.append(f"{folder} holds no {name}: `lethe report` writes it")
        for name in ("comparison.json", "table.csv", "verdict.json", "people.json", "plots", "plots/tradeoff.svg"):
            if (folder / name).is_symlink():
                links.append(f"{folder / name} is a link: give the folder that holds the file itself")
    raise_faults(missing + links)


def _write_pages(boards: list[Board], folder: Path) -> None:
    """Write a page for each board, and the first page, which lists them."""
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {name: getattr(shown, name) for name in ("number", "points", "si")}
    environment.filters["visible"] = visible
    fixed = {
        "style": Markup(STYLE.read_text(encoding="utf-8")),
        "columns": COLUMNS,
        "plain": PLAIN,
        "page": PAGE,
    }
    for board in boards:
        text = environment.get_template("board.html.j2").render(board=board, value=_value, **fixed)
        (folder / board.page).write_text(text, encoding="utf-8")
    text = environment.get_template("boards.html.j2").render(boards=boards, value=_value, **fixed)
    (folder / "index.html").write_text(text, encoding="utf-8")


def boards_of(published: Iterable[Published]) -> list[Board]:
    """Return boards by protocol (newest first), then name; a section for each question, newest first."""
    grouped: dict[tuple[str, str, str], dict[str, list[Published]]] = {}
    for comparison in sorted(
        published, key=lambda comparison: (comparison.record["created"], comparison.site_folder), reverse=True
    ):
        grouped.setdefault(comparison.board, {}).setdefault(comparison.question, []).append(comparison)
    # Numbers of different questions share a page, and never a table.
    boards = []
    for key, questions in grouped.items():
        sections = tuple(_section(group) for group in questions.values())
        record = sections[0].newest.record
        name = f"{record['data']['name']}-{Path(record['model']['name']).name}"
        boards.append(Board(f"{slug(name)}-p{slug(key[0])}-{key_of(key)[:8]}.html", record, sections))
    boards.sort(key=lambda board: board.page)
    return sorted(boards, key=lambda board: str(board.record["protocol"]), reverse=True)


def _section(group: list[Published]) -> Section:
    """Return the section of a `group`: newest first."""
    lines: dict[str, list[tuple[dict[str, Any], Published]]] = {}
    for comparison in group:
        for line in comparison.lines:
            lines.setdefault(line["row"], []).append((line, comparison))
    # The newest line of each row counts; the older ones are its history.
    entries = [Entry(versions[0][0], versions[0][1], tuple(versions[1:])) for versions in lines.values()]
    order = {"base": 0, "control": 1, "untrained": 1}
    entries.sort(key=lambda entry: (order.get(entry.line["role"], 2), str(entry.line["track"]), -_value(entry.line, "change")))
    return Section(tuple(group), tuple(entries), _plot(group[0].folder))


def _plot(folder: Path) -> str:
    drawn = read_reported(folder, TRADEOFF)
    return f"data:image/svg+xml;base64,{base64.b64encode(drawn).decode()}" if drawn else ""


def _read(folder: Path) -> Published:
    record = read_record(folder) or {}  # that it is there was looked at before
    lines = read_table(folder).astype(object)
    lines = lines.where(lines.notna(), None).to_dict("records")
    folder_name = f"{slug(record['name'])}-{key_of([record, lines])[:8]}"
    rows = [{str(k): v for k, v in line.items()} for line in lines]
    return Published(folder, record, rows, read_verdict(folder), folder_name)


def _files(comparison: Published, target: Path) -> None:
    """Write what can be downloaded of a comparison, a card for each recipe with it."""
    (target / "cards").mkdir(parents=True)
    write_json(target / "comparison.json", comparison.record)
    write_atomic(target / "table.csv", csv_text(pd.DataFrame(comparison.lines)))
    if comparison.verdict:
        write_json(target / "verdict.json", comparison.verdict)
    if comparison.has_page:
        _render(comparison, target)
    for line in comparison.lines:
        if line["role"] == Role.RECIPE and line["status"] == Status.DONE:
            text = card(comparison.record, line, warnings=comparison.warnings(line["row"]))
            (target / "cards" / f"{slug(line['row'])}.md").write_text(text, encoding="utf-8")


def _render(comparison: Published, target: Path) -> None:
    """Write the report of a comparison anew, from its runs."""
    from harness.report.write import write_report

    with TemporaryDirectory() as scratch:
        write_record(Path(scratch), comparison.record)
        people = read_people(comparison.folder)
        if people is not None:
            write_hashed(Path(scratch) / "people.json", people)
        write_report(Path(scratch), RunStore(comparison.runs))
        for name in RENDERED:
            (target / name).write_bytes((Path(scratch) / name).read_bytes())


def _leaderboard(boards: list[Board]) -> pd.DataFrame:
    """Return all newest lines, with what board and comparison they are of."""
    entries = []
    for board in boards:
        for section in board.sections:
            for entry in section.entries:
                record = entry.source.record
                head = {"protocol": record["protocol"], "model": record["model"]["name"], "model hash": record["model"]["hash"]}
                head |= {"data": record["data"]["name"], "data fingerprint": record["data"]["fingerprint"]}
                head |= {"budget": record["plan"]["budget"], "meter": record["plan"]["meter"], "created": record["created"]}
                entries.append(head | entry.line)
    return pd.DataFrame(entries)


def slug(text: str) -> str:
    """Return a file's name: letters, digits and dashes, and what tells texts apart that look alike so."""
    plain = re.sub(r"[^a-z0-9]+", "-", str(text).lower()).strip("-")[:60]
    return plain if plain == text else f"{plain}-{key_of(str(text))[:6]}".strip("-")


def _value(line: dict[str, Any], name: str) -> float:
    try:
        return float(shown_line(line)[name])
    except (KeyError, TypeError, ValueError):
        return float("nan")
