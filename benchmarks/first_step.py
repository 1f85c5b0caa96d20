"""Seconds from process start to the end of the first training step, and of a short training.

    python benchmarks/first_step.py [--rounds 3] [--threads 2] [--engines auto,cython,jax]
                                    [--epochs 100] [--json FILE] [--quick]

The step trains a hundred layers whose width changes from round to round, so that nothing compiled
for another network helps. The short training is that of 784-256-128-10 on the images that come with
fastnn. Each is a process of its own, in two situations:

again  Other networks were trained before: files are in the page cache, and engines find their
       caches of compiled code.
first  Nothing has run here before: engines have empty caches, and files are read from the disk
       (`cold`).

Engines of fastnn that cannot run, and baselines that are not installed, are left out. ``--quick``
shows whether all runs: one round, few epochs, a narrow network, the user's own caches, a warm page
cache, and no first run of engines that compile for long.
"""

import argparse
import contextlib
import itertools
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import arguments
import baselines
import cold
import processes
import report
from one_process import LAYERS, OURS

ENGINES = (*OURS, "jax", "torch", "torch.compile")
TASKS = {"step": ENGINES, "training": OURS}
SITUATIONS = ("again", "first")

# folders of the caches of engines
_CACHES = ("NUMBA_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
_SLOW = ("numba", "jax", "torch.compile")  # to compile
_WIDTH, _QUICK_WIDTH, _QUICK_EPOCHS = 64, 8, 1
_TOLERANCE = 1e-3  # of the loss of the first step, relative, between engines of fastnn
_PROCESS = str(Path(__file__).with_name("one_process.py"))

Outcomes = dict[tuple[str, str, str], dict]  # by task, situation and engine


def compare(options: argparse.Namespace) -> None:
    """Rounds of all engines, the file after each, and the tables."""
    raw = {task: {situation: {} for situation in SITUATIONS} for task in TASKS}
    figures = {
        "date": options.date,
        "threads": options.threads,
        "epochs": options.epochs,
        "quick": options.quick,
    }
    with tempfile.TemporaryDirectory() as folder:
        kept = None if options.quick else folder
        if kept:  # fills the page cache and the caches of compiled code
            one_round(options, 0, kept, ("again",))
        for number in range(1, options.rounds + 1):
            for (task, situation, engine), outcome in one_round(
                options, number, kept, SITUATIONS
            ).items():
                raw[task][situation].setdefault(engine, []).append(outcome)
            figures |= {"rounds": number, "medians": medians(raw), "raw": raw}
            report.write(options.json, figures)
    if options.json and not options.quick:
        import machine  # Not before: it loads Numba, whose files would stay in the page cache.

        report.write(options.json, {**figures, "machine": machine.describe(options.threads)})
    show(figures)


def one_round(
    options: argparse.Namespace, number: int, kept: str | None, situations: Sequence[str]
) -> Outcomes:
    """Run every engine that can run here once in each situation."""
    outcomes = {}
    for situation, task, engine in itertools.product(situations, TASKS, options.engines):
        too_slow = options.quick and situation == "first" and engine in _SLOW
        if engine in TASKS[task] and not too_slow:
            size = (
                options.epochs
                if task == "training"
                else (_QUICK_WIDTH if options.quick else _WIDTH) + number
            )
            outcomes[task, situation, engine] = timed(
                [task, engine, str(size)], situation, kept, options
            )
    outcomes = {key: outcome for key, outcome in outcomes.items() if "unsupported" not in outcome}
    check_losses(
        [
            outcome
            for (task, _, engine), outcome in outcomes.items()
            if task == "step" and engine in OURS
        ]
    )
    return outcomes


def timed(
    arguments: list[str], situation: str, kept: str | None, options: argparse.Namespace
) -> dict:
    """What a process prints, with the seconds from its start to the end of its work."""
    with tempfile.TemporaryDirectory() as empty:
        caches = empty if situation == "first" else kept
        if situation == "first" and not options.quick:
            cold.forget()
        with variables(dict.fromkeys(_CACHES, caches) if caches else {}):
            start = time.time()  # The clock is the same in both processes.
            outcome = processes.run(_PROCESS, arguments, options.threads)
    return {**outcome, "seconds": outcome["done"] - start} if "done" in outcome else outcome


@contextlib.contextmanager
def variables(values: dict[str, str]) -> Iterator[None]:
    """Environment variables of the processes that are started inside."""
    before = dict(os.environ)
    os.environ.update(values, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    # Python keeps what it compiles as well, from the installation on
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def check_losses(outcomes: list[dict]) -> None:
    """Turn outcomes of fastnn's engines into errors where their losses disagree."""
    losses = [outcome["loss"] for outcome in outcomes if "loss" in outcome]
    for outcome in outcomes:
        if "loss" in outcome and not math.isclose(outcome["loss"], losses[0], rel_tol=_TOLERANCE):
            outcome["error"] = f"a loss of {outcome['loss']} instead of {losses[0]}"


def medians(raw: dict) -> dict:
    """Median and range of the seconds of runs that ended well."""
    found = {}
    for task, situation in itertools.product(TASKS, SITUATIONS):
        seconds = {engine: _seconds(runs) for engine, runs in raw[task][situation].items()}
        found.setdefault(task, {})[situation] = {
            engine: report.spread(values) for engine, values in seconds.items() if values
        }
    return found


def _seconds(runs):
    return [run["seconds"] for run in runs if "error" not in run]


def show(figures: dict) -> None:
    """A table for each task."""
    titles = {
        "step": f"first step of {LAYERS} layers",
        "training": f"{figures['epochs']} epochs on the sample of MNIST",
    }
    for task, title in titles.items():
        found = figures["raw"][task]
        engines = [
            engine for engine in TASKS[task] if any(engine in runs for runs in found.values())
        ]
        rows = [
            [engine, *(_cell(figures, task, situation, engine) for situation in SITUATIONS)]
            for engine in engines
        ]
        print(report.table([f"{title}, s, median of {figures['rounds']}", *SITUATIONS], rows))


def _cell(figures, task, situation, engine):
    runs = figures["raw"][task][situation].get(engine, [])
    if not runs:
        return "–"
    spread = figures["medians"][task][situation].get(engine)
    backends = "/".join(
        sorted({run["backend"] for run in runs if "backend" in run and engine == "auto"})
    )
    return (
        "failed"
        if spread is None
        else f"{report.figure(spread['median'])}{f' ({backends})' if backends else ''}"
    )


def main():
    parser = arguments.parser(__doc__, ENGINES)
    parser.set_defaults(rounds=3)
    parser.add_argument("--epochs", type=int, default=100, help="of the training")
    parser.add_argument("--quick", action="store_true", help="see above")
    options = parser.parse_args()
    installed = baselines.installed()
    options.engines = options.engines or [
        engine for engine in ENGINES if engine in OURS or engine in installed
    ]
    if options.quick:
        options.rounds, options.epochs = 1, _QUICK_EPOCHS
    compare(options)


if __name__ == "__main__":
    main()
