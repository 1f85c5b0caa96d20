"""The book's network2 on fastnn and the book's algorithm in NumPy: µs a mini-batch of 10.

    python benchmarks/nielsen.py [--path FOLDER] [--rounds 5] [--threads 2] [--json FILE]

Both train on MNIST's 50,000 training pairs by a call of ``SGD(training_data, epochs, 10, 0.1,
lmbda=5.0)``. The time is that of the whole call, shuffling and slicing included. `PerSample` trains
as the book does, a sample at a time in column vectors. It is faster than the book's own code in
Python 3, which takes 1.16 times as long on 784-30-10 (358 µs against 308) and 1.30 times on
784-30-30-30-30-10 (681 against 522; medians of five interleaved epochs of 10,000 images). Every
measurement is a process of its own, and the two are interleaved.
"""

import argparse
import contextlib
import io
import itertools
import json
import random
import time

import arguments
import numpy as np
import processes
import report

import fastnn as fnn
from fastnn.nielsen import mnist_loader, network2

SIZES = ([784, 30, 10], [784, 30, 30, 30, 30, 10])
EPOCHS = {"fastnn": 5, "per sample": 1}
MINI_BATCH, ETA, LMBDA = 10, 0.1, 5.0


class PerSample:
    """Sigmoid neurons and cross-entropy, trained by backpropagation of one sample at a time."""

    def __init__(self, sizes, seed):
        rng = np.random.default_rng(seed)
        self.biases = [rng.standard_normal((n_out, 1)) for n_out in sizes[1:]]
        self.weights = [
            rng.standard_normal((n_out, n_in)) / np.sqrt(n_in)
            for n_in, n_out in itertools.pairwise(sizes)
        ]

    def SGD(self, training_data, epochs, mini_batch_size, eta, lmbda):
        """Train as the book does: each epoch a new order, then all mini-batches."""
        samples = list(training_data)
        for _ in range(epochs):
            random.shuffle(samples)
            for first in range(0, len(samples), mini_batch_size):
                self.step(samples[first : first + mini_batch_size], eta, lmbda, len(samples))

    def step(self, mini_batch, eta, lmbda, n):
        """Take a step down the sum of the samples' gradients."""
        sum_b, sum_w = (
            [np.zeros_like(b) for b in self.biases],
            [np.zeros_like(w) for w in self.weights],
        )
        for x, y in mini_batch:
            by_bias, by_weight = self.gradient(x, y)
            sum_b = [total + part for total, part in zip(sum_b, by_bias, strict=True)]
            sum_w = [total + part for total, part in zip(sum_w, by_weight, strict=True)]
        rate, decay = eta / len(mini_batch), 1 - eta * lmbda / n
        self.weights = [
            decay * w - rate * total for w, total in zip(self.weights, sum_w, strict=True)
        ]
        self.biases = [b - rate * total for b, total in zip(self.biases, sum_b, strict=True)]

    def gradient(self, x, y):
        """∂C/∂b and ∂C/∂w of a sample, layer by layer."""
        outputs = [x]
        for b, w in zip(self.biases, self.weights, strict=True):
            outputs.append(1 / (1 + np.exp(-(np.dot(w, outputs[-1]) + b))))
        delta = outputs[-1] - y
        by_bias, by_weight = [delta], [np.dot(delta, outputs[-2].T)]
        for layer in range(len(self.weights) - 2, -1, -1):
            a = outputs[layer + 1]
            delta = np.dot(self.weights[layer + 1].T, delta) * a * (1 - a)
            by_bias.append(delta)
            # np.matmul takes twice as long if one operand has a single column.
            by_weight.append(np.dot(delta, outputs[layer].T))
        return by_bias[::-1], by_weight[::-1]


def measure(engine: str, sizes: list[int], path: str | None, threads: int) -> dict:
    """Microseconds a mini-batch, and the number of validation images classified correctly."""
    processes.confine(threads)
    fnn.set_num_threads(threads)
    training_data, validation_data, _ = mnist_loader.load_data_wrapper(path)
    net = network2.Network(sizes, seed=0) if engine == "fastnn" else PerSample(sizes, seed=0)
    # Loads the engine and fills caches.
    quietly(net.SGD, training_data[:1000], 1, MINI_BATCH, ETA, LMBDA)
    start = time.perf_counter()
    quietly(net.SGD, training_data, EPOCHS[engine], MINI_BATCH, ETA, LMBDA)
    seconds = time.perf_counter() - start
    scorer = network2.Network(sizes, seed=0)
    scorer.weights, scorer.biases = net.weights, net.biases
    steps = EPOCHS[engine] * len(training_data) / MINI_BATCH
    return {
        "us": 1e6 * seconds / steps,
        "right": scorer.accuracy(validation_data),
        "epochs": EPOCHS[engine],
    }


def quietly(call, *arguments):
    """Call without what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        call(*arguments)


def compare(options) -> None:
    """Rounds of both, the file after each, and the table."""
    import machine  # Not at the top: the runs do not need it.

    about = {
        "date": options.date,
        "threads": options.threads,
        "machine": machine.describe(options.threads),
    }
    raw = {name(sizes): {engine: [] for engine in EPOCHS} for sizes in SIZES}
    for number in range(1, options.rounds + 1):
        for sizes in SIZES:
            for engine, runs in raw[name(sizes)].items():
                command = [
                    "--measure",
                    engine,
                    "--sizes",
                    json.dumps(sizes),
                    *(["--path", options.path] if options.path else []),
                ]
                runs.append(processes.run(__file__, command, options.threads))
        report.write(options.json, {**about, "rounds": number, "raw": raw})
    rows = []
    for network, engines in raw.items():
        ours, book = (report.spread([run["us"] for run in engines[engine]]) for engine in EPOCHS)
        cells = [
            f"{spread['median']:.1f} ({spread['min']:.1f}–{spread['max']:.1f})"
            for spread in (ours, book)
        ]
        rows.append([network, *cells, f"{book['median'] / ours['median']:.1f}"])
    print(report.table(["µs a mini-batch", *EPOCHS, "ratio of medians"], rows))


def name(sizes: list[int]) -> str:
    """Sizes as text."""
    return "-".join(map(str, sizes))


def main():
    parser = arguments.parser(__doc__, EPOCHS)
    parser.add_argument(
        "--path", help="folder of the IDX files; else as fastnn.datasets.mnist finds them"
    )
    parser.add_argument("--measure", metavar="ENGINE", help=argparse.SUPPRESS)
    parser.add_argument("--sizes", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.sizes, options.path, options.threads)))
    else:
        compare(options)


if __name__ == "__main__":
    main()
