"""The one error that is the user's: printed without a stack trace, all faults together."""

from collections.abc import Callable
from typing import Any

from lethe.errors import PlanError

__all__ = ["PlanError", "faults_of", "one_line", "raise_faults"]


def faults_of(check: Callable[..., Any], *arguments: Any) -> list[str]:
    """Return what a check that raises PlanError finds wrong."""
    try:
        check(*arguments)
    except PlanError as error:
        return list(error.faults)
    return []


def raise_faults(faults: list[str]) -> None:
    """Raise one `PlanError` with every fault, or return where there is none."""
    if faults:
        raise PlanError(*faults)


def one_line(error: BaseException) -> str:
    """Return an error's whole message in one line, its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
