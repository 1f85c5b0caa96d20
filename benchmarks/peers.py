"""Time of a training step of fastnn, JAX, PyTorch and scikit-learn, interleaved.

    python benchmarks/peers.py [--rounds 5] [--threads 2] [--only TEXT] [--engines fastnn,jax]
                               [--json FILE] [--quick]
    python benchmarks/peers.py --threads-check [--rounds 5] [--only TEXT] [--json FILE]

A round runs every engine once on every workload, each in a process of its own. A run is a warm-up
epoch, compilation included, then at least three more epochs and half a second. Its result is the
median of their seconds divided by their steps.

The table shows medians over rounds. Two columns show the time of a baseline divided by fastnn's:
the fastest of JAX, PyTorch and torch.compile, and PyTorch alone. The last shows which fraction of
fastnn's time the lower bound (`machine.lower_bound`) is. ``--quick`` trains a few steps of
everything: it shows whether all programs run, and its figures mean nothing.

``--threads-check`` runs fastnn alone, with one thread and with two.
"""

import argparse
import dataclasses
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import arguments
import baselines
import processes
import report
from workloads import WORKLOADS, Workload

FASTEST_OF = ("jax", "torch", "torch.compile")

_EPOCHS, _SECONDS = 3, 0.5
QUICK_STEPS = 5


def measure(engine: str, workload: Workload, threads: int, quick: bool) -> dict:
    """One run: microseconds a step, seconds of the first epoch, last loss; or an error."""
    processes.confine(threads)
    return time_steps(
        lambda X, y: baselines.load(engine).Training(workload, X, y, threads), workload, quick
    )


def time_steps(make: Callable[..., Any], workload: Workload, quick: bool) -> dict:
    """`measure` for the training that ``make`` gives for features and labels."""
    try:
        training = make(*workload.data())
        first, _ = _timed(training)
    except baselines.Unsupported as error:
        return {"unsupported": str(error)}
    seconds, loss = _timed(training)
    times = _seconds(training, max(_EPOCHS, 0 if quick else math.ceil(_SECONDS / seconds)))
    if not math.isfinite(loss):
        return {"error": f"the loss became {loss}"}
    return {
        "microseconds": statistics.median(times) / workload.steps * 1e6,
        "first_epoch": first,
        "loss": loss,
    }


def _seconds(training, epochs):
    """Seconds of each epoch.

    An engine that times its own epochs reports them: work done once a call is then not counted once
    an epoch.
    """
    if hasattr(training, "seconds"):
        return training.seconds(epochs)
    return [_timed(training)[0] for _ in range(epochs)]


def _timed(training):
    start = time.perf_counter()
    loss = training.epoch()
    return time.perf_counter() - start, loss


class Runs:
    """All that was measured, by workload and column: an engine, or a number of threads."""

    def __init__(
        self,
        columns: list[str],
        quick: bool,
        script: str = __file__,
        seconds: float = processes.TIMEOUT,
    ):
        self.columns, self.quick, self.script, self.seconds = columns, quick, script, seconds
        self.raw = {}

    def run(self, workload: Workload, column: str, engine: str, threads: int | None) -> None:
        """Measure once more. Unsupported combinations are skipped; failed ones run again."""
        entry = self.raw.setdefault(workload.name, {}).setdefault(
            column, {"microseconds": [], "first_epoch": [], "loss": []}
        )
        if "unsupported" in entry:
            return
        arguments = ["--measure", engine, workload.name, *(["--quick"] if self.quick else [])]
        outcome = processes.run(self.script, arguments, threads, self.seconds)
        for key, value in outcome.items():
            if key in ("unsupported", "error"):
                entry[key] = value
            else:
                entry[key].append(value)

    def median(self, workload: str, column: str) -> float | None:
        """Microseconds a step."""
        times = self.raw.get(workload, {}).get(column, {}).get("microseconds")
        return statistics.median(times) if times else None

    def cell(self, workload: str, column: str) -> str:
        """`median` as a table shows it."""
        value = self.median(workload, column)
        return (
            report.figure(value)
            if value
            else "failed"
            if "error" in self.raw.get(workload, {}).get(column, {})
            else "–"
        )

    def spreads(self) -> dict:
        """Median and range of everything."""
        return {
            name: {
                column: report.spread(entry["microseconds"])
                for column, entry in entries.items()
                if entry["microseconds"]
            }
            for name, entries in self.raw.items()
        }


def compare(options, workloads):
    """Compare fastnn with its baselines."""
    import machine  # Not at the top: it loads Numba, which processes of baselines must not.

    engines = options.engines or baselines.installed()
    runs, about = Runs(engines, options.quick), machine.describe(options.threads)
    bounds = {workload.name: machine.lower_bound(workload, about) * 1e6 for workload in workloads}
    for number in range(1, options.rounds + 1):
        for workload in workloads:
            for engine in engines:
                runs.run(workload, engine, engine, options.threads)
        summary = summarise(runs, bounds)
        figures = {
            "date": options.date,
            "threads": options.threads,
            "rounds": number,
            "machine": about,
        }
        report.write(
            options.json, {**figures, "medians": runs.spreads(), **summary, "raw": runs.raw}
        )
    show(runs, summary, options.rounds)


def summarise(
    runs: Runs, bounds: dict[str, float | None], fastest_of: tuple[str, ...] = FASTEST_OF
) -> dict:
    """Ratios by workload, and their geometric means and minima."""
    ratios = {name: _ratios(runs, name, bound, fastest_of) for name, bound in bounds.items()}
    columns = {
        key: [row[key] for row in ratios.values() if row[key] is not None]
        for key in ("over_best", "over_torch", "fraction")
    }
    return {
        "ratios": ratios,
        "geometric_means": {
            key: statistics.geometric_mean(values) for key, values in columns.items() if values
        },
        "minima": {key: min(values) for key, values in columns.items() if values},
    }


def _ratios(runs, name, bound, fastest_of):
    ours = runs.median(name, "fastnn")
    times = {
        engine: runs.median(name, engine) for engine in fastest_of if runs.median(name, engine)
    }
    best = min(times, key=times.get, default=None)
    return {
        "best": best,
        "over_best": times[best] / ours if ours and best else None,
        "over_torch": times["torch"] / ours if ours and "torch" in times else None,
        "lower_bound": bound,
        "fraction": bound / ours if bound and ours else None,
    }


def show(runs: Runs, summary: dict, rounds: int) -> None:
    """The table."""
    header = [
        f"µs a step, median of {rounds}",
        *runs.columns,
        "÷ best",
        "÷ torch",
        "lower bound",
        "fraction",
    ]
    rows = []
    for name, row in summary["ratios"].items():
        ratios = [
            report.figure(row["over_best"]),
            report.figure(row["over_torch"]),
            report.figure(row["lower_bound"]),
            _percent(row["fraction"]),
        ]
        rows.append([name, *(runs.cell(name, column) for column in runs.columns), *ratios])
    for title, key in (("geometric mean", "geometric_means"), ("least", "minima")):
        values = summary[key]
        ends = [
            report.figure(values.get("over_best")),
            report.figure(values.get("over_torch")),
            "",
            _percent(values.get("fraction")),
        ]
        rows.append([title, *[""] * len(runs.columns), *ends])
    print(report.table(header, rows))


def _percent(fraction):
    return "–" if fraction is None else f"{100 * fraction:.0f} %"


def check_threads(options, workloads):
    """fastnn with one thread and with two; two should be at most 5 % slower than one."""
    runs = Runs(["1", "2"], options.quick)
    for number in range(1, options.rounds + 1):
        for workload in workloads:
            for threads in (1, 2):
                runs.run(workload, str(threads), "fastnn", threads)
        ratios = {name: _two_over_one(runs, name) for name in runs.raw}
        figures = {
            "date": options.date,
            "rounds": number,
            "medians": runs.spreads(),
            "two_over_one": ratios,
            "raw": runs.raw,
        }
        report.write(options.json, figures)
    rows = [
        [name, runs.cell(name, "1"), runs.cell(name, "2"), report.figure(ratio)]
        for name, ratio in ratios.items()
    ]
    known = [ratio for ratio in ratios.values() if ratio]
    rows.append(["most", "", "", report.figure(max(known, default=None))])
    print(
        report.table(
            [f"µs a step, median of {options.rounds}", "1 thread", "2 threads", "2 ÷ 1"], rows
        )
    )


def _two_over_one(runs, name):
    one, two = runs.median(name, "1"), runs.median(name, "2")
    return two / one if one and two else None


def main():
    parser = arguments.parser(__doc__, baselines.BASELINES)
    parser.add_argument("--only", default="", help="part of a workload's name")
    parser.add_argument(
        "--quick", action="store_true", help="a few steps only, to see whether all runs"
    )
    parser.add_argument(
        "--threads-check", action="store_true", help="fastnn alone, with one thread and with two"
    )
    parser.add_argument(
        "--measure", nargs=2, metavar=("ENGINE", "WORKLOAD"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    workloads = [workload for workload in WORKLOADS if options.only in workload.name]
    if options.quick:
        workloads = [dataclasses.replace(workload, steps=QUICK_STEPS) for workload in workloads]
    if options.measure:
        engine, name = options.measure
        workload = next(workload for workload in workloads if workload.name == name)
        print(json.dumps(measure(engine, workload, options.threads, options.quick)))
    elif options.threads_check:
        check_threads(options, workloads)
    else:
        compare(options, workloads)


if __name__ == "__main__":
    main()
