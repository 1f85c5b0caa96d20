"""The cost of recording gradient flow at every step, with `GradientFlow(every=1)`.

    python benchmarks/gradient_flow.py [--rounds 21] [--threads 2] [--json FILE]

One network in one process trains a few epochs with and without, interleaved; which comes first
alternates. Results are medians over rounds, also of the ratios.
"""

import argparse

import arguments
import baselines
import machine
import numpy as np
import report
from workloads import WORKLOADS, Workload

import fastnn as fnn

_EPOCHS = 4  # of a turn; the first is not counted


def measure(workload: Workload, rounds: int, threads: int) -> dict[str, float]:
    """Microseconds a step without and with statistics, and the ratio within a round."""
    training = baselines.load("fastnn").Training(workload, *workload.data(), threads)

    def step(callbacks: list) -> float:
        history = training.net.fit(
            *training.samples, epochs=_EPOCHS, callbacks=callbacks, **training.options
        )
        return np.median(history["seconds"][1:]) / workload.steps * 1e6

    ways = [], [fnn.GradientFlow(every=1)]
    for way in ways:
        step(way)  # loads the engine, makes the workspace
    pairs = np.array(
        [
            [step(way) for way in ways] if i % 2 else [step(way) for way in ways[::-1]][::-1]
            for i in range(rounds)
        ]
    )
    without, recorded = np.median(pairs, axis=0)
    return {
        "without": float(without),
        "recorded": float(recorded),
        "ratio": float(np.median(pairs[:, 1] / pairs[:, 0])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="file for the figures, written after every workload")
    parser.add_argument("--date", default=arguments.today(), help="to enter into the file")
    options = parser.parse_args()
    about = machine.describe(options.threads)
    figures = {
        "date": options.date,
        "threads": options.threads,
        "rounds": options.rounds,
        "machine": about,
        "workloads": {},
    }
    for workload in WORKLOADS:
        found = figures["workloads"][workload.name] = measure(
            workload, options.rounds, options.threads
        )
        times = f"{found['without']:9.1f} µs {found['recorded']:9.1f} µs"
        print(f"{workload.name:55s} {times}   × {found['ratio']:.3f}", flush=True)
        report.write(options.json, figures)


if __name__ == "__main__":
    main()
