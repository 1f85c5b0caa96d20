"""Accuracy and time of training on nine real tables: fastnn, networks and trees in their defaults.

    python benchmarks/tables.py [--sets heart,credit] [--splits 0,1,2] [--contenders fastnn,hgb]
                                [--threads 2] [--json FILE] [--resume FILE] [--plot FILE.png]
    python benchmarks/tables.py --quick

A split draws 60, 20 and 20 % of the rows at random (`real_tables.sets.split`). A contender gets
the first two parts together and is scored on the third; what it does with its 80 % is its own
choice. Each run has a process of its own, with two threads. All get a DataFrame; the contender
fastnn-train, which is not in the default list, is the command line on a CSV file.

A run has the seconds and CPU seconds (user and system, of the process and its children) to load
the library, to fit and to predict. Threads of OpenMP sleep while they wait, unless
``OMP_WAIT_POLICY`` says otherwise: spinning would count as CPU time.

The first score is log-loss for classes and R² for numbers. The baseline predicts the class shares,
or the mean, of the rows to fit. The last table ranks the contenders by their first score, a mean
over splits, on the sets and splits that all of them finished.

``--json`` keeps all results and is written after each run. ``--resume`` takes the runs that a file
has instead of running them again, and shows its other contenders and sets too: baselines are run
once, and fastnn beside them after each change. Runs that failed are run again.

``--quick`` shows whether all runs: two small sets, one split, the contenders that take seconds.
What is not installed is named and left out.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arguments
import processes
import report
from real_tables import contenders, sets

SPLITS = (0, 1, 2)
QUICK_SETS = ("heart", "concrete")
PACKAGES = ("pandas", "scipy")  # without these nothing can be read or scored
_VERSIONS = {"sklearn": "scikit-learn", "hgb": "scikit-learn", "realmlp": "pytabkit",
             "tabm": "pytabkit", "fastnn-train": "fastnn"}  # fmt: skip


# --- one run --------------------------------------------------------------------------------------


def measure(name: str, number: int, contender: str, threads: int) -> dict[str, Any]:
    """Fit a contender on a split of a set, and score it.

    Returns
    -------
    dict
        ``start_up``, ``fit`` and ``predict``, each with ``wall`` and ``cpu`` seconds; ``scores``,
        those of the ``baseline``, and the ``version`` of the package.
    """
    processes.confine(threads)
    train, start_up = _timed(contenders.CONTENDERS[contender].load, threads)
    from real_tables import scores  # Not at the top: SciPy is part of what others load.

    with tempfile.TemporaryDirectory(prefix="fastnn-tables-") as folder:
        problem = contenders.problem(name, number, Path(folder))
        predict, fit = _timed(train, problem)
        predicted, prediction = _timed(predict)
    return {
        "version": report.version(_VERSIONS.get(contender, contender)),
        "start_up": start_up,
        "fit": fit,
        "predict": prediction,
        "scores": scores.score(problem.task, problem.y_test, predicted),
        "baseline": scores.baseline(problem.task, problem.y, problem.y_test),
    }


def _timed(function: Callable, *arguments: object) -> tuple[Any, dict[str, float]]:
    """What a function returns, and its seconds."""
    wall, cpu = time.perf_counter(), _cpu_seconds()
    returned = function(*arguments)
    return returned, {"wall": time.perf_counter() - wall, "cpu": _cpu_seconds() - cpu}


def _cpu_seconds() -> float:
    """User and system seconds of this process and of its children that have ended."""
    import resource  # Not at the top: Windows has none, and the rest of the program runs there.

    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


# --- all runs -------------------------------------------------------------------------------------


def compare(options: argparse.Namespace) -> None:
    """Run what is missing, write all results after each run, and show the tables."""
    # Threads of OpenMP that wait for a preempted one spin, up to a hundred times as long as they
    # compute: on a busy machine their CPU seconds would say nothing.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    results = _kept(options.resume, options.threads)
    write(results, options)
    chosen = _installed(options.contenders, _packages_of_contender)
    for name in _installed(options.sets, lambda name: (sets.SETS[name].package,)):
        for number in options.splits:
            for contender in chosen:
                outcomes = results.setdefault(name, {}).setdefault(contender, {})
                if "scores" in outcomes.get(str(number), {}):
                    continue
                words = ["--measure", name, str(number), contender]
                outcome = processes.run(__file__, words, options.threads)
                outcomes[str(number)] = outcome
                _note(f"{name}, split {number}, {contender}: {_brief(outcome)}")
                write(results, options)
    show(results)
    if options.plot:
        _plot(results, options.plot)


def write(results: dict, options: argparse.Namespace) -> None:
    """Write the file of ``--json``, which ``--resume`` reads."""
    figures = {"date": options.date, "threads": options.threads, "raw": results}
    report.write(options.json, figures)


def _kept(path: str | None, threads: int) -> dict:
    """The results of an earlier run."""
    if path is None:
        return {}
    if not Path(path).exists():
        _note(f"{path} does not exist yet: everything is run")
        return {}
    figures = json.loads(Path(path).read_text(encoding="utf-8"))
    if figures["threads"] != threads:
        raise SystemExit(f"{path} was measured with {figures['threads']} threads, not {threads}")
    return figures["raw"]


def _installed(names: list[str], packages: Callable[[str], tuple[str, ...]]) -> list[str]:
    """The names whose packages are installed; the others are named."""
    found = []
    for name in names:
        missing = [package for package in packages(name) if not importlib.util.find_spec(package)]
        if missing:
            _note(f"{name} is left out: {', '.join(missing)} is not installed")
        else:
            found.append(name)
    return found


def _packages_of_contender(name: str) -> tuple[str, ...]:
    return contenders.CONTENDERS[name].packages


def _brief(outcome: dict[str, Any]) -> str:
    if "error" in outcome:
        return outcome["error"]
    title, value = next(iter(outcome["scores"].items()))
    return f"{title} {report.figure(value)}, {report.figure(outcome['fit']['cpu'])} CPU s"


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- what is shown --------------------------------------------------------------------------------


def show(results: dict) -> None:
    """A table a set, and the summary."""
    from real_tables import comparison

    for name, row in results.items():
        print(_set_table(name, row), end="\n\n")
    compared = comparison.comparable(results)
    rows = [
        [
            name,
            f"{summary.rank:.2f}",
            f"{summary.gap:.3f}",
            report.figure(summary.cpu),
            report.figure(summary.relative_cpu),
        ]
        for name, summary in comparison.summarise(results).items()
    ]
    header = [f"{len(compared)} sets", "mean rank", "mean gap", "CPU s", "÷ CatBoost"]
    print(report.table(header, rows) if rows else "nothing can be compared")
    left_out = [name for name in results if name not in compared]
    if left_out:
        print(f"not compared, as no split was finished by all: {', '.join(left_out)}")


def _set_table(name: str, row: dict[str, dict[str, dict]]) -> str:
    """Means over the splits that each contender finished, the best first."""
    from real_tables import comparison, scores

    first = scores.FIRST[sets.SETS[name].task]
    done = {who: list(comparison.finished(outcomes).values()) for who, outcomes in row.items()}
    failed = [who for who, outcomes in done.items() if not outcomes]
    done = {who: outcomes for who, outcomes in done.items() if outcomes}
    order = sorted(
        done,
        key=lambda who: comparison.mean(done[who], "scores", first),
        reverse=first not in scores.LOWER_IS_BETTER,
    )
    titles = list(next(iter(done.values()))[0]["scores"]) if done else []
    times = [("fit", "wall"), ("fit", "cpu"), ("start_up", "cpu")]
    rows = [
        [
            who,
            *(_score(comparison.mean(done[who], "scores", title)) for title in titles),
            *(report.figure(comparison.mean(done[who], *keys)) for keys in times),
            str(len(done[who])),
        ]
        for who in order
    ]
    if order:
        best = done[order[0]]
        values = [_score(comparison.mean(best, "baseline", title)) for title in titles]
        rows.append(["baseline", *values, *["–"] * len(times), str(len(best))])
    rows += [[who, "failed", *[""] * (len(titles) + len(times))] for who in failed]
    header = [scores.TITLES[title] for title in titles]
    return report.table([name, *header, "fit s", "CPU s", "load CPU s", "splits"], rows)


def _score(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def _plot(results: dict, path: str) -> None:
    from real_tables import chart, comparison

    compared = comparison.comparable(results)
    if not compared:
        _note("no picture: nothing can be compared")
    elif _installed(["--plot"], lambda name: ("matplotlib",)):
        chart.draw(comparison.summarise(results), compared, Path(path))


# --- the command line -----------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = contenders.CONTENDERS
    default = [name for name, contender in known.items() if contender.by_default]
    parser.add_argument(
        "--sets", type=arguments.names(sets.SETS), default=list(sets.SETS),
        help=f"some of {','.join(sets.SETS)}; default: all",
    )  # fmt: skip
    parser.add_argument(
        "--splits", type=lambda text: [int(n) for n in text.split(",")], default=list(SPLITS)
    )
    parser.add_argument(
        "--contenders", type=arguments.names(known), default=default,
        help=f"some of {','.join(known)}; default: {','.join(default)}",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="file for the results, written after every run")
    parser.add_argument("--resume", metavar="FILE", help="take the runs that this file has")
    parser.add_argument("--plot", metavar="FILE", help="picture of ranks and gaps against CPU time")
    parser.add_argument("--date", default=arguments.today(), help="to enter into the file")
    parser.add_argument("--quick", action="store_true", help="to see whether all runs")
    parser.add_argument(
        "--measure", nargs=3, metavar=("SET", "SPLIT", "CONTENDER"), help=argparse.SUPPRESS
    )
    return parser


def main() -> None:
    """Run the command line."""
    options = _parser().parse_args()
    if options.measure:
        name, number, contender = options.measure
        print(json.dumps(measure(name, int(number), contender, options.threads)))
        return
    if options.quick:
        options.sets = [name for name in options.sets if name in QUICK_SETS]
        options.splits = options.splits[:1]
        options.contenders = [n for n in options.contenders if contenders.CONTENDERS[n].fast]
    if _installed(["everything"], lambda name: PACKAGES):
        compare(options)


if __name__ == "__main__":
    main()
