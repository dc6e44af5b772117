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
    from harness.interruption import INTERRUPTED, end_soon_after_interrupts, leave, tell

    end_soon_after_interrupts()
    try:
        from harness.commands.cli import main as run

        return leave(run())
    except KeyboardInterrupt:  # while modules were imported
        tell()
        return leave(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
