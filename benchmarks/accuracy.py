"""Time to 98 % on MNIST's test images with 784-256-128-10, from process start to end.

    python benchmarks/accuracy.py --path FOLDER [--rounds 5] [--threads 2] [--engines fastnn,jax]
                                  [--json FILE]

Every run is a process of its own, timed from outside. It loads the library, reads the four IDX
files in FOLDER, trains on all 60,000 images, and evaluates the 10,000 test images after each epoch
until the accuracy is reached. fastnn trains by the schedule below; JAX, PyTorch and scikit-learn
train by Adam at 1e-3 with mini-batches of 128. Each round has its own seed, as the seed changes the
number of epochs by several. The first round does not count: it fills the page cache and the caches
of compiled code of fastnn and JAX.
"""

import argparse
import functools
import itertools
import json
import os
import tempfile
import time
from pathlib import Path

import arguments
import baselines
import numpy as np
import processes
import report
from workloads import WORKLOADS

import fastnn as fnn

TARGET = 0.98
ENGINES = ("fastnn", "jax", "torch", "sklearn")
WORKLOAD = next(
    workload for workload in WORKLOADS if workload.name == "784-256-128-10 ReLU, Adam, batch 128"
)
MOST_EPOCHS = 40  # after which a baseline stops

# fastnn's schedule
EPOCHS, BATCH_SIZE, RATE = 3, 64, 4e-3

Samples = tuple[np.ndarray, np.ndarray]


def data(path: str) -> tuple[Samples, Samples]:
    """Images and digits: 60,000 to train on, 10,000 to test."""
    train, validation, test = fnn.datasets.mnist(path)
    X, y = (np.concatenate(parts) for parts in zip(train, validation, strict=True))
    return (X, y), test


def with_fastnn(train: Samples, test: Samples, threads: int, seed: int) -> tuple[int, float]:
    """Epochs trained and accuracy reached."""
    fnn.set_num_threads(threads)
    net = fnn.Network(
        list(WORKLOAD.layers), inputs=WORKLOAD.inputs, loss="softmax_cross_entropy", seed=seed
    )
    steps = EPOCHS * -(-len(train[0]) // BATCH_SIZE)
    history = net.fit(
        *train,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        optimizer=fnn.Adam(fnn.OneCycle(RATE, steps)),
        validation=test,
        callbacks=[StopAtTarget()],
        progress=False,
    )
    return len(history["loss"]), history["val_accuracy"][-1]


class StopAtTarget:
    """Ends fastnn's training where the accuracy is reached."""

    def on_epoch_end(self, training):
        if training.history["val_accuracy"][-1] >= TARGET:
            training.stop("target reached")


def with_baseline(
    engine: str, train: Samples, test: Samples, threads: int, seed: int
) -> tuple[int, float]:
    """Epochs trained and accuracy reached."""
    training = baselines.load(engine).Training(WORKLOAD, *train, threads, seed)
    for epoch in itertools.count(1):
        training.epoch()
        accuracy = float(np.mean(training.predict(test[0]) == test[1]))
        if accuracy >= TARGET or epoch == MOST_EPOCHS:
            return epoch, accuracy


def measure(engine: str, path: str, threads: int, seed: int) -> dict:
    """One run."""
    processes.confine(threads)
    train, test = data(path)
    run = with_fastnn if engine == "fastnn" else functools.partial(with_baseline, engine)
    epochs, accuracy = run(train, test, threads, seed)
    return {"epochs": epochs, "accuracy": accuracy}


def compare(options) -> None:
    """Rounds of all engines, the file after each, and the table."""
    import machine  # Not at the top: the runs do not need it.

    engines = options.engines or [name for name in ENGINES if name in baselines.installed()]
    about = {
        "date": options.date,
        "threads": options.threads,
        "target": TARGET,
        "machine": machine.describe(options.threads),
    }
    raw = {engine: [] for engine in engines}
    with tempfile.TemporaryDirectory() as cache:
        os.environ.update(
            JAX_COMPILATION_CACHE_DIR=cache, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0"
        )
        for number in range(options.rounds + 1):
            runs = {engine: timed(engine, options, seed=number) for engine in engines}
            if number > 0:
                for engine, run in runs.items():
                    raw[engine].append(run)
                report.write(
                    options.json, {**about, "rounds": number, "medians": medians(raw), "raw": raw}
                )
    show(raw)


def medians(raw: dict) -> dict:
    """Median and range of the seconds of runs that reached the target."""
    seconds = {
        engine: [run["seconds"] for run in runs if reached(run)] for engine, runs in raw.items()
    }
    return {engine: report.spread(values) for engine, values in seconds.items() if values}


def reached(run: dict) -> bool:
    """Whether a run reached the target."""
    return run.get("accuracy", 0) >= TARGET


def timed(engine: str, options, seed: int) -> dict:
    """One run in its own process, with the seconds from its start to its end."""
    start = time.perf_counter()
    outcome = processes.run(
        __file__,
        ["--measure", engine, "--path", str(options.path), "--seed", str(seed)],
        options.threads,
    )
    return {"seconds": time.perf_counter() - start, **outcome}


def show(raw: dict) -> None:
    """The table."""
    seconds, rows = medians(raw), []
    for engine, runs in raw.items():
        good = [run for run in runs if reached(run)]
        if not good:
            rows.append([engine, "failed", "", "", "", f"0 of {len(runs)}"])
            continue
        median, epochs, accuracies = (
            seconds[engine]["median"],
            [run["epochs"] for run in good],
            [run["accuracy"] for run in good],
        )
        ratio = f"{median / seconds['fastnn']['median']:.1f}" if "fastnn" in seconds else "–"
        ranges = (
            f"{min(epochs)}–{max(epochs)}",
            f"{100 * min(accuracies):.2f}–{100 * max(accuracies):.2f}",
        )
        rows.append([engine, f"{median:.2f}", ratio, *ranges, f"{len(good)} of {len(runs)}"])
    print(report.table(["", "seconds", "÷ fastnn", "epochs", "test accuracy, %", "reached"], rows))


def main():
    parser = arguments.parser(__doc__, ENGINES)
    parser.add_argument("--path", type=Path, required=True, help="folder of the IDX files")
    parser.add_argument("--measure", metavar="ENGINE", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.path, options.threads, options.seed)))
    else:
        compare(options)


if __name__ == "__main__":
    main()
