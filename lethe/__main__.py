"""The `lethe` command, and `python -m lethe`."""

from __future__ import annotations

import sys

from lethe.place import overwritten, take_own_harness


def main() -> int:
    """Run one command; returns its exit code."""
    clashes = overwritten()
    if clashes:
        print("\n".join(f"lethe: {sentence}" for sentence in clashes), file=sys.stderr)
        return 2
    take_own_harness()
    from harness.commands.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
