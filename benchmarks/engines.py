"""Time of a training step on fastnn's Cython and Numba engines, interleaved.

    python benchmarks/engines.py [--rounds 5] [--threads 2] [--only TEXT] [--json FILE] [--quick]

Runs are those of `peers`, each in a process of its own. The last column is the time on Cython
divided by the time on Numba.
"""

import dataclasses
import statistics

import arguments
import peers
import report
from baselines import BACKENDS
from workloads import WORKLOADS


def main():
    parser = arguments.parser(__doc__, BACKENDS)
    parser.add_argument("--only", default="", help="part of a workload's name")
    parser.add_argument(
        "--quick", action="store_true", help="a few steps only, to see whether all runs"
    )
    options = parser.parse_args()
    workloads = [workload for workload in WORKLOADS if options.only in workload.name]
    if options.quick:
        workloads = [
            dataclasses.replace(workload, steps=peers.QUICK_STEPS) for workload in workloads
        ]
    runs = peers.Runs(list(BACKENDS), options.quick)
    for number in range(1, options.rounds + 1):
        for workload in workloads:
            for backend in BACKENDS:
                runs.run(workload, backend, backend, options.threads)
        figures = {
            "date": options.date,
            "threads": options.threads,
            "rounds": number,
            "medians": runs.spreads(),
        }
        report.write(options.json, {**figures, "cython_over_numba": ratios(runs), "raw": runs.raw})
    show(runs, options.rounds)


def ratios(runs: peers.Runs) -> dict[str, float]:
    """By workload: the median over rounds of Cython's time over Numba's in the same round."""
    times = {
        name: [entries[backend]["microseconds"] for backend in ("cython", "numba")]
        for name, entries in runs.raw.items()
    }
    return {
        name: statistics.median(c / n for c, n in zip(*pair, strict=True))
        for name, pair in times.items()
    }


def show(runs: peers.Runs, rounds: int) -> None:
    """The table."""
    found = ratios(runs)
    rows = [
        [name, runs.cell(name, "cython"), runs.cell(name, "numba"), report.figure(ratio)]
        for name, ratio in found.items()
    ]
    rows.append(
        ["geometric mean", "", "", report.figure(statistics.geometric_mean(found.values()))]
    )
    rows.append(["most", "", "", report.figure(max(found.values()))])
    print(
        report.table([f"µs a step, median of {rounds}", "cython", "numba", "cython ÷ numba"], rows)
    )


if __name__ == "__main__":
    main()
