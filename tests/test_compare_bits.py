"""The tool that compares the bits of two versions: ``tools/compare_bits``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn

TOOL = Path(__file__).parents[1] / "tools" / "compare_bits"
if not TOOL.exists():
    pytest.skip(
        "tools/ is not beside the tests: they run without the sources", allow_module_level=True
    )

CASE = "numpy float32 1 | shape: 3-2-2"


def run(*arguments):
    """The exit status and the output of the tool with the fastnn under test."""
    environment = {**os.environ, "PYTHONPATH": str(Path(fastnn.__file__).parents[1])}
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The file that ``write`` writes for a few cases."""
    path = tmp_path_factory.mktemp("written") / "a.json"
    status, output = run("write", path, "--engines", "numpy", "--only", "shape: 3-2-2")
    assert status == 0, output
    return path


@pytest.fixture
def changed(written, tmp_path):
    """Writes a copy of the file after a function has changed its cases."""

    def change(function):
        content = json.loads(written.read_bytes())
        function(content["cases"])
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(content))
        return path

    return change


def test_two_runs_are_equal(written, tmp_path):
    again = tmp_path / "again.json"
    assert run("write", again, "--engines", "numpy", "--only", "shape: 3-2-2")[0] == 0
    status, output = run("compare", written, again)
    assert status == 0
    assert output.splitlines() == [
        "2 of 2 cases are equal",
        "numpy: 2 equal, 0 differ",
        "  float32: 1 equal, 0 differ",
        "  float64: 1 equal, 0 differ",
    ]


def test_a_changed_digest_is_reported(written, changed):
    def change(cases):
        cases[CASE]["parameters"]["0.weight"] = "0"

    status, output = run("compare", written, changed(change))
    assert status == 1
    assert output.splitlines() == [
        "1 of 2 cases are equal",
        "numpy: 1 equal, 1 differ",
        "  float32: 0 equal, 1 differ",
        "  float64: 1 equal, 0 differ",
        f"  {CASE}: differs in parameters/0.weight",
    ]


@pytest.mark.parametrize("swapped", [False, True])
def test_a_missing_case_is_reported(written, changed, swapped):
    files = [written, changed(lambda cases: cases.pop(CASE))]
    status, output = run("compare", *(reversed(files) if swapped else files))
    assert status == 1
    assert "  float32: 0 equal, 0 differ, 1 missing" in output
    assert f"  {CASE}: only in {written}" in output


def test_a_missing_digest_is_reported(written, changed):
    other = changed(lambda cases: cases[CASE]["history"].pop("loss"))
    for files in ((written, other), (other, written)):
        status, output = run("compare", *files)
        assert status == 1
        assert f"  {CASE}: differs in history/loss" in output


def test_a_failed_case_is_reported(written, changed):
    other = changed(lambda cases: cases.update({CASE: {"error": "ValueError: no"}}))
    for files in ((written, other), (other, other)):
        status, output = run("compare", *files)
        assert status == 1
        assert "  float32: 0 equal, 0 differ, 1 failed" in output


def test_ignored_digests_are_left_out_and_counted(written, changed):
    def change(cases):
        cases[CASE]["parameters"]["0.weight"] = "0"
        cases[CASE]["history"]["val_loss"] = ["0x1p+0"]

    other = changed(change)
    status, output = run("compare", written, other, "--ignore", "val_,parameters/")
    assert status == 0
    assert "2 of 2 cases are equal" in output
    # Four parameters in each of two cases, and the added val_loss.
    said = "ignored: 9 digests with 'val_' or 'parameters/' in their names, of which 2 differ"
    assert said in output
    status, output = run("compare", written, other, "--ignore", "val_")
    assert status == 1
    assert f"  {CASE}: differs in parameters/0.weight" in output


def test_cases_without_a_digest_left_are_not_equal(written, changed):
    other = changed(lambda cases: cases.update({name: {"loss": "0x1p+0"} for name in cases}))
    status, output = run("compare", other, other, "--ignore", "loss")
    assert status == 1
    assert "numpy: 0 equal, 0 differ, 2 not compared" in output


def test_wrong_arguments_are_refused(written):
    status, output = run("compare", written, written, "--ignore", "val_,")
    assert status == 2
    assert "an empty text between the commas of 'val_,'" in output
    status, output = run("write", "unused.json", "--engines", "nunpy")
    assert status == 2
    assert "no engine is called nunpy; there are: numpy, numba, cython" in output


def test_write_fails_if_no_case_is_selected(tmp_path):
    options = ("--engines", "numpy", "--only", "no such case")
    assert run("write", tmp_path / "none.json", *options)[0] == 1
