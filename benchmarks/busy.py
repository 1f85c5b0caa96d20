"""Time of a training beside other processes that use the cores.

    python benchmarks/busy.py [--rounds 5] [--threads 2] [--engines fastnn,sklearn,lightgbm]
                              [--busy 0,2,4,8] [--json FILE] [--quick]

The training is that of a table of 4,000 rows and 30 columns in two classes. fastnn trains the
network of its command line, 256-128 in mini-batches of 32, for twenty epochs, with one thread and
with several; scikit-learn's MLP trains the same network; LightGBM grows 300 trees. A round runs
each of them once, in a process of its own, beside 0, 2, 4 and 8 processes that compute all the
time. Loading and compiling do not count.

The table shows medians over rounds, in seconds, and the time of several threads divided by that of
one. ``--quick`` shows whether all programs run; its figures mean nothing.
"""

import argparse
import contextlib
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import arguments
import numpy as np
import processes
import report

import fastnn as fnn

ROWS, COLUMNS, EPOCHS, TREES = 4000, 30, 20, 300
BUSY = (0, 2, 4, 8)
PACKAGES = {"fastnn": "fastnn", "sklearn": "sklearn", "lightgbm": "lightgbm"}


def table() -> tuple[np.ndarray, np.ndarray]:
    """Features and labels that a network learns well."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    y = X[:, 0] * X[:, 1] + X[:, 2] > rng.normal(scale=0.3, size=ROWS)
    return X, y.astype(np.int64)


# --- the contenders: each gives a function that trains --------------------------------------------


def fastnn(threads: int) -> Callable[[int], object]:
    """A training for a number of epochs."""
    fnn.set_num_threads(threads)
    X, y = table()
    net = fnn.mlp([COLUMNS, 256, 128, 2])
    return lambda epochs: net.fit(X, y, epochs=epochs, progress=False)


def sklearn(threads: int) -> Callable[[int], object]:
    """`MLPClassifier.partial_fit`, once an epoch; `processes` sets the threads of BLAS."""
    from sklearn.neural_network import MLPClassifier

    X, y = table()
    model = MLPClassifier([256, 128], batch_size=32, alpha=0.0)

    def train(epochs):
        for _ in range(epochs):
            model.partial_fit(X, y, classes=[0, 1])

    return train


def lightgbm(threads: int) -> Callable[[int], object]:
    """Trees instead of epochs."""
    from lightgbm import LGBMClassifier

    X, y = table()

    def train(epochs):
        trees = TREES * epochs // EPOCHS
        LGBMClassifier(n_estimators=trees, n_jobs=threads, verbose=-1).fit(X, y)

    return train


CONTENDERS = {"fastnn": fastnn, "sklearn": sklearn, "lightgbm": lightgbm}


def measure(engine: str, threads: int, quick: bool) -> dict[str, float]:
    """Seconds of one training."""
    train = CONTENDERS[engine](threads)
    train(1)
    started = time.perf_counter()
    train(1 if quick else EPOCHS)
    return {"seconds": time.perf_counter() - started}


# --- the rounds -----------------------------------------------------------------------------------


@contextlib.contextmanager
def busy_processes(n: int) -> Iterator[None]:
    """So many processes compute while inside."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def columns(engines: list[str], threads: int) -> list[tuple[str, int]]:
    """Engines and numbers of threads; fastnn with one thread as well."""
    one = [("fastnn", 1)] if "fastnn" in engines and threads > 1 else []
    return one + [(engine, threads) for engine in engines]


def compare(options: argparse.Namespace, engines: list[str]) -> None:
    """Run the rounds, write the figures after each, and show the table."""
    raw = {}
    for number in range(1, options.rounds + 1):
        for n in options.busy:
            with busy_processes(n):
                for engine, threads in columns(engines, options.threads):
                    quick = ["--quick"] if options.quick else []
                    outcome = processes.run(__file__, ["--measure", engine, *quick], threads)
                    raw.setdefault(n, {}).setdefault(f"{engine} {threads}", []).append(outcome)
                    print(
                        f"round {number}, {n} busy: {engine} {threads} {outcome}", file=sys.stderr
                    )
        figures = {"date": options.date, "rounds": number, "raw": raw}
        report.write(options.json, figures)
    show(raw, [f"{engine} {threads}" for engine, threads in columns(engines, options.threads)])


def show(raw: dict[int, dict[str, list[dict]]], names: list[str]) -> None:
    """The table."""
    rows = []
    for n, entries in raw.items():
        medians = {name: _median(entries[name]) for name in names}
        one, more = (medians.get(name) for name in (names[0], names[1] if len(names) > 1 else ""))
        both = one and more and names[0].startswith("fastnn") and names[1].startswith("fastnn")
        ratio = report.figure(more / one) if both else "–"
        rows.append([str(n), *(report.figure(medians[name]) for name in names), ratio])
    print(report.table(["busy processes", *names, "several over one"], rows))


def _median(outcomes: list[dict]) -> float | None:
    seconds = [outcome["seconds"] for outcome in outcomes if "seconds" in outcome]
    return statistics.median(seconds) if seconds else None


def main() -> None:
    """Run the command line."""
    parser = arguments.parser(__doc__, PACKAGES)
    parser.add_argument(
        "--busy", type=lambda text: [int(n) for n in text.split(",")], default=list(BUSY)
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--measure", metavar="ENGINE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.threads, options.quick)))
        return
    installed = [name for name, package in PACKAGES.items() if importlib.util.find_spec(package)]
    compare(options, options.engines or installed)


if __name__ == "__main__":
    main()
