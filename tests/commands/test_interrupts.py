"""Ctrl-C ends a comparison within five seconds wherever it is, leaves nothing behind, and the same command goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from harness import interruption
from harness.bundled import ROOT
from harness.store.files import UNDER_WAY
from tests.support.comparisons import flags, lethe, options
from tests.support.interrupted import LIMIT, Reached, interrupt, said, written

PHASES: dict[str, Reached] = {
    "imports": said("loading torch"),
    "planning, while another process imports": said("tokenising"),
    "making the base ready": said("results go to"),
    "scoring the base": written("runs/*/evals/*.journal"),
    "training": written("runs/*/checkpoint/*"),  # not by what is said: runs as short as these may end before they say how far
}


@pytest.mark.slow
def test_ctrl_c_ends_a_comparison_wherever_it_is(files, tiny_path, tmp_path, record_property):
    asked = options(files, tiny_path, tmp_path, recipes="sft lora", workers=2, checkpoint_every=0.2)
    for phase, reached in PHASES.items():
        ended = interrupt(["compare", *flags(asked)], tmp_path, reached)
        record_property(phase, round(ended.seconds, 2))
        assert ended.code == 130 and ended.seconds <= LIMIT and not ended.left, (phase, ended)
        assert "interrupted; the same command goes on" in ended.text and "Traceback" not in ended.text
    assert lethe(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait() == 0
    assert not [path for path in tmp_path.rglob(".*") if UNDER_WAY.fullmatch(path.name)]


STUCK = """
import os, subprocess, sys, time
from harness.interruption import end_soon_after_interrupts
end_soon_after_interrupts()
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(2, signal.SIG_IGN); time.sleep(60)"])
while True:
    try:
        print(child.pid, flush=True)  # inside: the signal may come at once
        time.sleep(60)
    except KeyboardInterrupt:
        pass  # as a library's callback does
"""


@pytest.mark.parametrize("times", [1, 2])
def test_a_command_that_swallows_interrupts_is_ended_with_its_processes(times):
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    child = psutil.Process(int(process.stdout.readline()))
    begin = time.monotonic()
    for number in range(times):
        process.send_signal(signal.SIGINT)
        if number + 1 < times:
            process.stdout.readline()  # this one was swallowed: two at once would be one
    try:
        _, errors = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        for stuck in (process, child):
            with suppress(psutil.Error, ProcessLookupError):
                stuck.kill()
        raise
    assert process.returncode == interruption.INTERRUPTED and errors == interruption.SENTENCE
    assert time.monotonic() - begin < (interruption.PATIENCE if times == 2 else LIMIT)
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
