"""The hub while tasks are built: asked quietly, or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


def unreachable(error: BaseException | None) -> bool:
    """Return whether the hub could not be reached."""
    while error is not None:
        # Clients raise classes of their own; their names have the word in them.
        if isinstance(error, (ConnectionError, TimeoutError)) or "Connect" in type(error).__name__:
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Show no progress bars of `datasets` inside the context."""
    import datasets

    before = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if before:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Ask the hub nothing more inside the context; what is cached is still found."""
    from unittest.mock import patch

    with patch("datasets.config.HF_HUB_OFFLINE", True), patch("huggingface_hub.constants.HF_HUB_OFFLINE", True):
        yield
