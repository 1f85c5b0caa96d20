"""The campaigns of ``tools/campaign.py`` in short; a maintainer runs them for hours."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastnn

TOOL = Path(__file__).parents[1] / "tools" / "campaign.py"
if not TOOL.exists():
    pytest.skip(
        "tools/ is not beside the tests: they run without the sources", allow_module_level=True
    )
if sys.platform == "win32":
    pytest.skip("Windows has no SIGKILL, SIGTERM and fork as POSIX has", allow_module_level=True)


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(fastnn.__file__).parents[1])}


def run(*arguments):
    """The exit status and the output of the tool with the fastnn under test."""
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("campaign", "count"),
    [
        ("kill", 10),
        ("damage", 200),
        ("tables", 80),
        ("numbers", 60),
        ("threads", 6),
        ("signals", 8),
    ],
)
def test_a_short_campaign_finds_no_fault(campaign, count):
    if campaign in ("damage", "tables"):
        pytest.importorskip("pyarrow")
    status, output = run(campaign, "--count", count, "--seed", 16)
    assert status == 0, output
    assert f"{campaign}, seed 16: {count} tried" in output
    assert re.search(r"^ +0  faults$", output, re.MULTILINE)


def test_it_ends_after_so_many_seconds():
    status, output = run("numbers", "--seconds", 0, "--seed", 16)
    assert status == 0, output
    assert "numbers, seed 16: 0 tried" in output or "1 tried" in output


BROKEN = """
import sys
from argparse import Namespace
sys.path.insert(0, sys.argv[1])
from campaigns.running import run
class Campaign:
    def __init__(self, folder):
        pass
    def attempt(self, rng):
        return {}["layers"]
sys.exit(run("damage", Campaign, Namespace(count=2, first=5, seconds=None, seed=3)))
"""


def test_a_fault_is_counted_and_can_be_repeated():
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, str(TOOL.parent)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert done.returncode == 1, done.stderr
    assert "KeyError: 'layers'" in done.stdout
    assert "python tools/campaign.py damage --seed 3 --first 6 --count 1" in done.stdout
    assert re.search(r"^ +2  faults$", done.stdout, re.MULTILINE)


@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN, reason="Ctrl-C is ignored, as under nohup"
)
def test_ctrl_c_ends_a_campaign_with_its_counts():
    command = [sys.executable, str(TOOL), "numbers", "--seconds", "600", "--seed", "16"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as tool:
        time.sleep(5)
        tool.send_signal(signal.SIGINT)
        try:
            output = tool.communicate(timeout=60)[0]
        finally:
            tool.kill()
    assert "interrupted; so far:" in output
    assert "numbers, seed 16:" in output
