"""Files of rules and of answer formats that are no files."""

from __future__ import annotations

import os

import pytest

from harness.errors import PlanError
from harness.files.rule_files import read_format, read_rules


@pytest.mark.parametrize("read", [read_rules, read_format])
def test_a_pipe_is_refused_and_not_waited_for(read, tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(PlanError, match="is a pipe or a device"):
        read(str(tmp_path / "pipe.json"))
