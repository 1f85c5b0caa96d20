"""Time of training: an epoch, a step, samples a second, and the fraction of the lower bound.

An epoch is one call of `fit`, checks of the data included, as in the comparison with baselines.
"""

import functools
import statistics
import time
from collections.abc import Callable

import fastnn as fnn

from .engines import COMPILED, ENGINES, NAMES, THREADS, check, confine, network, options, workload

_EPOCHS, _SECONDS = 3, 0.5


@functools.cache  # asv sets up anew before every sample
def _prepare(name: str, engine: str) -> Callable[[], object]:
    """A function that trains an epoch, after a first one."""
    of = workload(name, engine)
    check(of, engine)
    X, y = of.data()
    net, how = network(of, engine), options(of)
    net.fit(X, y, **how)
    return lambda: net.fit(X, y, **how)


def _seconds_a_step(name, engine):
    epoch, times = _prepare(name, engine), []
    while len(times) < _EPOCHS or sum(times) < _SECONDS:
        start = time.perf_counter()
        epoch()
        times.append(time.perf_counter() - start)
    return statistics.median(times) / workload(name, engine).steps


class Training:
    """Every workload on every engine."""

    params = (NAMES, ENGINES, THREADS)
    param_names = ("workload", "engine", "threads")

    def setup(self, name, engine, threads):
        confine(engine, threads)
        self.epoch = _prepare(name, engine)

    def time_epoch(self, name, engine, threads):
        self.epoch()

    def track_step(self, name, engine, threads):
        return _seconds_a_step(name, engine)

    track_step.unit = "seconds"

    def track_samples_per_second(self, name, engine, threads):
        return workload(name, engine).batch_size / _seconds_a_step(name, engine)

    track_samples_per_second.unit = "samples/s"


class LowerBound:
    """The lower bound of a step (`machine.lower_bound`) divided by its time."""

    params = (NAMES, COMPILED, THREADS)
    param_names = ("workload", "engine", "threads")

    def setup_cache(self):
        """Number of threads → the machine, measured with it."""
        import machine

        return {threads: machine.describe(threads) for threads in THREADS}

    def setup(self, machines, name, engine, threads):
        confine(engine, threads)
        _prepare(name, engine)

    def track_fraction_of_lower_bound(self, machines, name, engine, threads):
        import machine

        return (
            100
            * machine.lower_bound(workload(name, engine), machines[threads])
            / _seconds_a_step(name, engine)
        )

    track_fraction_of_lower_bound.unit = "%"


class Threads:
    """The number of threads that engines use; it shows a setting without effect."""

    params = (COMPILED, THREADS)
    param_names = ("engine", "threads")

    def setup(self, engine, threads):
        confine(engine, threads)

    def track_threads(self, engine, threads):
        return fnn.num_threads()

    track_threads.unit = "threads"
