"""Rebuild the phantom from its seed: `python -m suites.phantom.build`.

--only files        tasks, general data and domain; seconds
--only base         tokenizer and base model; the long part, resumes where it was cut off
--only card         score the base and write its card
--kinds fact --to DIR   a domain of some kinds alone
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from suites.phantom import files, finance

HERE = Path(__file__).resolve().parent
BASE, WORK = HERE / "base", HERE / ".build"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.phantom.build", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("files", "base", "card"), help="one part of the work")
    parser.add_argument("--seed", type=int, default=0, help="seed of the base; 0 is the one that ships")
    parser.add_argument("--steps", type=int, help="length of the pretraining")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true", help="train without torch.compile, slower")
    parser.add_argument("--out", type=Path, default=BASE, help="folder of the base")
    parser.add_argument("--kinds", nargs="+", choices=list(finance.TRAIN), help="write a domain of these kinds alone")
    parser.add_argument("--to", type=Path, default=Path(), help="folder for --kinds")
    return parser.parse_args(argv)


def pure(kinds: Sequence[str], folder: Path) -> None:
    """Write a domain of some kinds: training records, masks and test."""
    train, truth, test = finance.build(tuple(kinds))
    stem = folder / "-".join(kinds)
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in (("", train), (".test", test), (".truth", truth)):
        path = stem.with_name(stem.name + suffix + ".json")
        path.write_text(files.table(content) if isinstance(content, list) else files.masks(content), encoding="utf-8")
        print(path)


def base(seed: int, steps: int | None, threads: int, compiled: bool, out: Path) -> None:
    """Train the base and save it."""
    import torch

    from suites.phantom import model, pretrain

    torch.set_num_threads(threads)
    WORK.mkdir(exist_ok=True)
    tok = model.tokenizer()
    net, log = pretrain.train(
        tok, WORK, seed, steps or pretrain.STEPS, compiled, report=lambda p: print(f"\r{p}", end="", flush=True)
    )
    print()
    fresh = WORK / f"saved-{seed}"
    shutil.rmtree(fresh, ignore_errors=True)
    tok.save_pretrained(fresh)
    net.save_pretrained(fresh)
    (fresh / "loss.csv").write_text("step,loss\n" + "".join(f"{s},{v}\n" for s, v in log))
    out.mkdir(parents=True, exist_ok=True)
    for path in fresh.iterdir():
        shutil.copy(path, out / path.name)


def main(argv: Sequence[str] | None = None) -> None:
    """Build what was asked for."""
    args = arguments(argv)
    if args.kinds:
        pure(args.kinds, args.to)
        return
    if args.only in (None, "files"):
        print(files.write(), "files")
    if args.only in (None, "base"):
        base(args.seed, args.steps, args.threads, not args.no_compile, args.out)
    if args.only in (None, "card"):
        from suites.phantom import card

        card.write(args.out)


if __name__ == "__main__":
    main()
