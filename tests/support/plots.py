"""Reports without the minutes that rendering their plots takes, for tests that look at nothing of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from harness.report.figures.style import Plot


@contextmanager
def unrendered() -> Iterator[None]:
    """Draw the plots of a report inside the context, but render none: their files hold their names."""
    file = mock.patch.object(Plot, "file", lambda plot, kind: f"{plot.name}.{kind}".encode())
    inline = mock.patch.object(Plot, "inline", lambda plot: f"<svg><title>{plot.name}</title></svg>")
    with file, inline:
        yield
