"""The table of fields: the page that is written from it, and that each of its fields is read or refused."""

from __future__ import annotations

from collections import Counter

from harness.fields.table import KNOWN, LETTERS, TABLE
from harness.files.formats_page import PATH, formats_page
from harness.files.records import read_record
from tests.support.field_files import ALPACA, ASK, CHAT, data_faults


def test_the_page_is_written_from_the_table():
    assert PATH.read_text(encoding="utf-8") == formats_page(), "run `make docs`"
    assert all(f"`{name}`" in formats_page() for name in KNOWN)


def test_every_field_of_the_table_is_read_or_refused():
    """Nothing that the table says is read is left unread, and nothing that it refuses passes."""
    whole = [ALPACA, {"messages": CHAT}, {"prompt": "p", "completion": "c"}, ASK, ASK | {"choices": ["x", "y"]}]
    samples = {"history": [["a", "b"]], "choices": ["x", "y"], "options": ["x", "y"], "messages": CHAT, "conversations": CHAT}
    for field in TABLE:
        for name in field.names if field.place == "record" else ():
            if field.refused:
                bad = next(value for value in (True, 0, "x", ["x", "y"]) if field.refused(value))
                reading = [row for row in whole if not field.instead or field.instead in row or "question" in row]
                assert all(data_faults(row | {name: bad}) for row in reading)
            elif name not in LETTERS and "history" not in name:
                assert any(_reads(name, row | {name: samples.get(name, "B")}) for row in [*whole, {}])


def _reads(name: str, row: dict) -> bool:
    unread: Counter[str] = Counter()
    read_record("r", row, [], unread, "both")
    return not unread[name]
