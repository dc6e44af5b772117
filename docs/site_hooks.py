"""Hooks of the documentation site (mkdocs.yml): the command line's page, and links that leave docs/."""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parent
ROOT = DOCS.parent
LINK = re.compile(r"\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")
log = logging.getLogger("mkdocs.hooks.lethe")


def on_files(files: Files, config) -> Files:
    """Add command_line.md, written from the argument parser."""
    files.append(File.generated(config, "command_line.md", content=command_line()))
    return files


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Turn links to files of the repository outside docs/ into links to the repository, or into plain text if none is set.

    A link to a file that does not exist is a warning, and so an error in a strict build.
    """
    folder = (DOCS / page.file.src_uri).parent

    def outside(match: re.Match) -> str:
        target = (folder / match[1]).resolve()
        if target.is_relative_to(DOCS):
            return match[0]
        if not target.exists():
            log.warning("%s links to %s, which does not exist", page.file.src_uri, match[1])
        path = target.relative_to(ROOT)
        if config.repo_url:
            return f"]({config.repo_url.rstrip('/')}/blob/main/{path}{match[2] or ''})"
        return f"](# '{path} in the repository')"

    return LINK.sub(outside, markdown)


def command_line() -> str:
    """Return the page on every `lethe` command and its arguments."""
    from harness.commands.cli import __doc__ as codes
    from harness.commands.parsing.parser import make_parser

    page = ["# Command line", "", "Written from the argument parser when the site is built.", ""]
    page += ["## Exit codes", "", codes.split("\n\n", 1)[1].strip(), ""]
    for name, parser in _commands(make_parser()):
        page += [f"## lethe {name}", "", _argument_table(parser), ""]
    return "\n".join(page)


def _commands(parser: argparse.ArgumentParser, before: str = "") -> list[tuple[str, argparse.ArgumentParser]]:
    """Return the leaves of the tree of commands with their whole names."""
    commands = []
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        for name, child in action.choices.items():
            whole = f"{before} {name}".strip()
            commands += _commands(child, whole) or [(whole, child)]
    return commands


def _argument_table(parser: argparse.ArgumentParser) -> str:
    rows = ["| argument | meaning |", "|---|---|"]
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        name = ", ".join(action.option_strings) or action.dest.upper()
        meaning = (action.help or "").replace("%%", "%").replace("|", "\\|").replace("<", "\\<")
        rows.append(f"| `{name}` | {meaning} |")
    return "\n".join(rows)
