"""The memory that a table takes: twice the numbers that a network sees, and 200 MB for the rest."""

import subprocess
import sys

import numpy as np
import pytest

ROWS, COLUMNS = 400_000, 20
MEGABYTES = 2 * 4 * ROWS * COLUMNS / 1e6 + 200

CHILD = """
import re, sys
from fastnn.cli import main
status = main(sys.argv[1:])
# Not getrusage, which counts the process that started this one.
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
sys.exit(status)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")


def peak(folder, *arguments):
    """Megabytes that a command takes at most."""
    command = [sys.executable, "-c", CHILD, *arguments, "--backend", "numpy"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return int(result.stdout.split()[-1]) * 1024 / 1e6


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    numbers = {f"x{i}": rng.normal(size=ROWS).round(6) for i in range(COLUMNS - 4)}
    names = {"name": rng.choice(["red", "green", "blue"], ROWS), "n": rng.integers(0, 1000, ROWS)}
    return {**numbers, **names, "y": rng.integers(0, 2, ROWS)}


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz", "zeros.npz"])
def test_the_peak_of_every_format(tmp_path, table, kind):
    path = tmp_path / f"t.{kind}"
    if kind == "npz":
        numbers = np.column_stack([values for name, values in table.items() if name[0] == "x"])
        np.savez(path, X=np.hstack([numbers, numbers[:, :4]]), y=table["y"])
    elif kind == "zeros.npz":  # half a megabyte
        rare = np.zeros((ROWS, COLUMNS))  # of nothing but zeros there were nothing to learn
        rare[np.arange(0, ROWS, 1000), np.arange(ROWS // 1000) % COLUMNS] = 1
        np.savez_compressed(path, X=rare, y=table["y"])
    else:
        arrow = pytest.importorskip("pyarrow")
        from pyarrow import csv, parquet

        {"csv": csv.write_csv, "parquet": parquet.write_table}[kind](arrow.table(table), path)
    options = ["--layers", "4", "--epochs", "1", "--batch-size", "8192", "--out", "m.fastnn"]
    assert peak(tmp_path, "train", path.name, *options) < MEGABYTES
    assert peak(tmp_path, "evaluate", "m.fastnn", path.name) < MEGABYTES
    assert peak(tmp_path, "predict", "m.fastnn", path.name, "-o", "p.npz") < MEGABYTES
