"""The `lethe` command, and `python -m lethe`."""

from __future__ import annotations

import sys

from lethe.place import take_own_harness


def main() -> int:
    """Run one command; returns its exit code."""
    take_own_harness()
    from harness.commands.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
