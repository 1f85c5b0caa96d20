"""What benchmarks of one network's training step share: one run, rounds of runs, and their table.

A training is an object whose ``epoch(X, y)`` takes an epoch's steps and returns their mean loss.
"""

import argparse
import statistics
import time
from typing import Any, Protocol

import numpy as np
import processes
import report


class Training(Protocol):
    """A network and its optimiser, of fastnn or of another library."""

    def epoch(self, X: np.ndarray, y: np.ndarray) -> float:
        """Train for an epoch; returns its mean loss."""
        ...


def measure(
    training: Training, X: np.ndarray, y: np.ndarray, steps: int, epochs: int
) -> dict[str, float]:
    """Medians of the milliseconds and CPU milliseconds a step, and the last loss.

    An epoch before them, compilation included, does not count.
    """
    training.epoch(X, y)
    wall, cpu, loss = [], [], 0.0
    for _ in range(epochs):
        started, cpu_started = time.perf_counter(), time.process_time()
        loss = training.epoch(X, y)
        wall.append((time.perf_counter() - started) / steps * 1e3)
        cpu.append((time.process_time() - cpu_started) / steps * 1e3)
    return {
        "milliseconds": statistics.median(wall),
        "cpu_milliseconds": statistics.median(cpu),
        "loss": loss,
    }


def compare(
    script: str, engines: list[str], words: list[str], options: argparse.Namespace, **about: Any
) -> None:
    """Run each engine once a round, each in a process of its own, and show the table.

    Parameters
    ----------
    script : str
        The program; it takes ``--measure ENGINE``.
    engines : list of str
        The first is fastnn.
    words : list of str
        Further options of the program.
    options : Namespace
        Of `arguments.parser`.
    **about
        What else the file of ``--json`` tells.
    """
    raw: dict[str, list[dict]] = {engine: [] for engine in engines}
    for number in range(1, options.rounds + 1):
        for engine, runs in raw.items():
            runs.append(processes.run(script, ["--measure", engine, *words], options.threads))
        figures = {"date": options.date, "threads": options.threads, "rounds": number}
        report.write(options.json, figures | about | {"raw": raw})
    print(_table(raw))


def _table(raw: dict[str, list[dict]]) -> str:
    ours = _median(raw.get("fastnn", []), "milliseconds")
    rows = []
    for engine, runs in raw.items():
        wall, cpu = _median(runs, "milliseconds"), _median(runs, "cpu_milliseconds")
        ratio = wall / ours if wall and ours else None
        failed = [run["error"] for run in runs if "error" in run]
        rows.append([engine, *map(report.figure, (wall, cpu, ratio)), *(failed[:1] or [""])])
    return report.table(["median of a step", "ms", "CPU ms", "÷ fastnn", ""], rows)


def _median(runs: list[dict], key: str) -> float | None:
    values = [run[key] for run in runs if key in run]
    return statistics.median(values) if values else None
