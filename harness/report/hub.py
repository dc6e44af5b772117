"""A leaderboard site on the hub: a static Space, made by `lethe publish ... --to hub:OWNER/NAME`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.errors import PlanError
from harness.report.site import publish

PREFIX = "hub:"
CARD = """---
title: {name}
emoji: 📉
colorFrom: green
colorTo: gray
sdk: static
pinned: false
tags:
- lethe
- leaderboard
---

What fine-tuning gained and what it made models forget, measured with Lethe at equal budget.
"""
"""README.md of the Space: the hub reads its settings from it."""


def repository_of(to: str) -> str | None:
    """Return OWNER/NAME of `hub:OWNER/NAME`, None for a folder. Raises PlanError for any other text after `hub:`."""
    if not to.startswith(PREFIX):
        return None
    name = to.removeprefix(PREFIX)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise PlanError(f"--to {to} names no repository; write --to hub:OWNER/NAME")
    return name


def publish_to_hub(folders: Sequence[Path], repository: str) -> str:
    """Make the site and upload it as a static Space; return its address.

    Signing in is huggingface_hub's: `hf auth login`, or HF_TOKEN. Raises PlanError with the hub's own words if it refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    with tempfile.TemporaryDirectory() as scratch:
        site = publish(folders, Path(scratch) / "site").parent
        (site / "README.md").write_text(CARD.format(name=repository.partition("/")[2]), encoding="utf-8")
        try:
            api.create_repo(repository, repo_type="space", space_sdk="static", exist_ok=True)
            api.upload_folder(
                repo_id=repository,
                repo_type="space",
                folder_path=site,
                commit_message=f"{len(folders)} comparisons",
                delete_patterns="*",
            )
        except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise PlanError(
                f"the hub did not take {repository}: {reason}; sign in with `hf auth login`, or set HF_TOKEN"
            ) from None
    return f"{api.endpoint}/spaces/{repository}"
