"""Writes docs/formats.md: every field of data files from the table that reads them. Run by `make docs`."""

from __future__ import annotations

from pathlib import Path

from harness.fields.table import TABLE, Place
from harness.files.formats import READERS
from harness.files.turns import ROLES
from harness.store.opening import PACKED

PATH = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
HEAD = """# Data files

Written by `make docs` from `harness/fields/table.py`, the table that reads them.

`DATA`, `TEST`, `GENERAL` and `SUITES` take files that end in {endings}. Each may be compressed
({packed}), and is in UTF-8 or, with a byte-order mark, in any Unicode encoding. `DATA`, `TEST` and
`GENERAL` take hub data sets too. A .json file holds a list of records, an object whose `data` is
one, or one object after another. The cells of a .csv file are separated by commas, semicolons, bars or
tabs.

The fields of a record decide its form, and one file may mix forms:

| form | must have | may have |
|---|---|---|
| chat | `messages` or `conversations` | |
| Alpaca | `instruction`, `output` (or `response`) | `input` or `context` |
| completion | `prompt` (or `query`), `completion` (or `response`) | |
| question | `question`, `answer` (or `response`) | `choices` or `options`, `context` or `input` |
| plain text | `text`, in mode cpt | |

A record that is complete in two forms is refused. So are a field or column that occurs twice, and a
name that is nearly that of a field its form reads (`Input`, ` input`, `choicess`). Fields that are
not read are counted and named once in the report: `fields not read: meta_info (1,204 records), url
(33)`. All faults of a file are reported together, with record, field and cure.

Speakers of a chat are {roles}. Tools are refused. What an assistant says before the first question
(common in ShareGPT data) is left out and counted. A suite's row is recognised by `question`
([suites.md](suites.md)). A row is a plain text only if `text` stands with nothing else but
{beside}, or if its type says so.

`TEST=a.jsonl+b.jsonl` gives a domain several test files, whose tasks all count in gain. With several
data files, commas separate the tests of one from those of the next. If any row of a test file has
options, a type of [suites.md](suites.md), a rule or a list of right answers, or if the file has a
sidecar, it is asked and scored as the same file is under `SUITES` (`DOMAIN_METRIC=choice`: by
generated letters). Other test files are asked as the data's own records are: the last answer is
generated.

"""
TITLES = {
    Place.RECORD: "## Fields of a record, and of a suite's row",
    Place.TURN: "## Fields of a turn",
    Place.ITEM: "## Fields of a suite's row only",
}


def formats_page() -> str:
    """Return the whole page."""
    speakers: dict[str, list[str]] = {}
    for name, role in ROLES.items():
        speakers.setdefault(role, []).append(f"`{name}`")
    roles = "; ".join(f"{role}: {', '.join(names)}" for role, names in speakers.items())
    from harness.files.item_row import BESIDE_TEXT

    beside = ", ".join(f"`{name}`" for name in sorted(BESIDE_TEXT - {"text"}))
    endings = ", ".join(f"`{ending}`" for ending in READERS)
    packed = ", ".join(f"`{ending}`" for ending in PACKED)
    text = HEAD.format(endings=endings, packed=packed, roles=roles, beside=beside)
    for place, title in TITLES.items():
        text += f"{title}\n\n| field | | |\n|---|---|---|\n"
        for field in TABLE:
            if field.place is place:
                names = ", ".join(f"`{name}`" for name in field.names)
                text += f"| {names} | {'refused' if field.refused else 'read'} | {field.meaning} |\n"
        text += "\n"
    return text.rstrip() + "\n"


if __name__ == "__main__":
    PATH.write_text(formats_page(), encoding="utf-8")
