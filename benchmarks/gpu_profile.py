"""Time of each launch of a training step on a GPU: `gpu.py --profile`.

Each launch of the graph path is recorded alone and replayed many times, so that the host's work is
not counted; a replay costs about a microsecond itself. The module uses the engine's private parts.
The persistent path has one launch for all steps, so there is nothing to profile.
"""

import contextlib
import statistics
import time

import report
from baselines.fastnn_epochs import OPTIMIZERS
from workloads import Workload

import fastnn as fnn
from fastnn._kernels.numba_cuda.driver.launch import Gemm
from fastnn._kernels.numba_cuda.kernels import control

REPEATS = 64  # of a launch; fewer than the steps of a chunk, as some launches count steps
_TRIES = 5


class _Stop(Exception):
    pass


class _Watch:
    """A callback that times the launches between two chunks, with network and data on the GPU."""

    def __init__(self, engine):
        self.engine, self.step, self.rows = engine, None, []
        self._graph = engine._launcher.graph
        engine._launcher.graph = self._remember

    def _remember(self, launches, arguments, capacity, chunk):
        self.step = launches, arguments, len(chunk.rates)
        return self._graph(launches, arguments, capacity, chunk)

    def on_chunk_end(self, training):
        if self.step is None:
            raise _Stop
        launches, arguments, steps = self.step
        if steps <= REPEATS:
            return  # a longer chunk will come
        for launch in launches:
            self.rows.append((launch, _seconds(self.engine, launch, arguments, steps)))
        raise _Stop


def _seconds(engine, launch, arguments, steps):
    """Of one launch; the results that it leaves behind are meaningless."""
    device, workspace = engine._device, engine._workspace
    buffer = workspace["control"]
    kept = device.download(buffer)
    graph = device.record(lambda: engine._launcher.run([launch], arguments, workspace.capacity))
    times = []
    for _ in range(_TRIES):
        fresh = kept.copy()
        fresh[control.K], fresh[control.STEPS] = 0, steps  # as at the chunk's start
        device.upload(buffer, fresh)
        device.synchronize()
        start = time.perf_counter()
        graph.launch(REPEATS)
        device.synchronize()
        times.append((time.perf_counter() - start) / REPEATS)
    device.upload(buffer, kept)
    return statistics.median(times)


def show(workload: Workload) -> None:
    """Print the table of one workload."""
    net = fnn.Network(
        list(workload.layers), inputs=workload.inputs, loss="softmax_cross_entropy", backend="cuda"
    )
    X, y = workload.data()
    options = {
        "batch_size": workload.batch_size,
        "optimizer": OPTIMIZERS[workload.optimizer],
        "progress": False,
    }
    net.fit(X, y, **options)  # compiled, or loaded
    watch = _Watch(net.engine)
    with contextlib.suppress(_Stop):
        net.fit(X, y, epochs=50, callbacks=[watch], **options)
    if watch.step is None:
        print(f"{workload.name}: the persistent path, one launch for all steps")
        return
    if not watch.rows:
        print(f"{workload.name}: chunks have at most {REPEATS} steps, too few to time launches")
        return
    total = sum(seconds for _, seconds in watch.rows)
    cells = [
        [
            _name(launch),
            str(launch.index),
            *_size(launch),
            report.figure(1e6 * s),
            f"{100 * s / total:.0f} %",
        ]
        for launch, s in watch.rows
    ]
    print(
        report.table(
            [workload.name, "index", "blocks", "threads", "µs", "fraction"],
            [*cells, ["all", "", "", "", report.figure(1e6 * total), ""]],
        )
    )
    print()


def _name(launch):
    return f"cuBLASLt, {launch.kind}" if isinstance(launch, Gemm) else launch.kernel


def _size(launch):
    return ("", "") if isinstance(launch, Gemm) else (str(launch.grid), str(launch.block))
