"""Peak rates of this machine, measured, and a lower bound of the time of a training step.

    python benchmarks/machine.py [--threads 2]

Prints the GFLOP/s of the fastest matrix products of the installed libraries, the bandwidth of
working sets of several sizes, and the lower bound of each workload: a roofline model.
"""

import argparse
import functools
import importlib.util
import itertools
import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import arguments
import numba
import numpy as np
import report
from threadpoolctl import threadpool_limits
from workloads import WORKLOADS, Workload

import fastnn as fnn
from fastnn._kernels import opcodes
from fastnn._kernels.contract import aligned_zeros
from fastnn._kernels.numba_cpu import gemm
from fastnn._kernels.numba_cpu.compile import kernel

# m × depth × n
SHAPES = [(1024, 784, 1024), (256, 1024, 1024), (128, 784, 256), (240, 256, 256), (96, 256, 128)]
SIZES = [2**power for power in range(12, 29)]  # bytes; the last ones exceed any cache
PACKAGES = ("numpy", "numba", "torch", "jax", "scikit-learn", "onnxruntime")
SLOTS = {"sgd": 0, "momentum": 1, "adam": 2}

_SECONDS, _TRIES = 0.03, 5

# A piece of work for one thread, that many times.
Piece = Callable[[int], None]


def gemm_peak(threads: int) -> float:
    """Float32 operations a second of the fastest matrix products of any installed library.

    A multiplication and an addition count as two.
    """
    return max(gemm_peaks(threads).values())


def gemm_peaks(threads: int) -> dict[str, float]:
    """`gemm_peak` of each library."""
    sources = {"tile": _tile_pieces, "numpy": _numpy_pieces}
    if importlib.util.find_spec("torch"):
        sources["torch"] = _torch_pieces
    return {
        name: max(_product_rate(pieces, shape, threads) for shape in SHAPES)
        for name, pieces in sources.items()
    }


def bandwidth(n_bytes: int, threads: int) -> float:
    """Bytes a second, read plus written, of x += 1 over ``n_bytes`` divided among the threads."""
    arrays = [
        aligned_zeros(max(n_bytes // 4 // threads, 1), np.dtype(np.float32)) for _ in range(threads)
    ]
    pieces = [functools.partial(_add_one, x) for x in arrays]
    return 2 * sum(x.nbytes for x in arrays) / _seconds(pieces)


def describe(threads: int) -> dict:
    """The machine as plain data: its processor, installed packages and peak rates."""
    return {
        "cpu": _cpu(),
        "cores": fnn.num_threads(),
        "threads": threads,
        "system": platform.system(),
        "versions": {
            "python": platform.python_version(),
            **{name: report.version(name) for name in PACKAGES},
        },
        "peaks": gemm_peaks(threads),
        "bandwidths": [[size, bandwidth(size, threads)] for size in SIZES],
    }


def peak(machine: dict) -> float:
    """Operations a second of a described machine."""
    return max(machine["peaks"].values())


def rate(machine: dict, n_bytes: float) -> float:
    """Bytes a second of a described machine, interpolated for a working set of that size."""
    sizes, rates = np.log(np.array(machine["bandwidths"])).T
    return float(np.exp(np.interp(np.log(n_bytes), sizes, rates)))


def lower_bound(workload: Workload, machine: dict) -> float:
    """Seconds that a step takes at least: operations at peak rate, then bytes at full bandwidth.

    Operations are those of matrix products. Bytes are the parameters and the optimiser's vectors,
    once read and once written at the rate of a working set of their size, and the rows of the
    mini-batch, read once from main memory.
    """
    operations, state, rows = costs(workload)
    return (
        operations / peak(machine)
        + 2 * state / rate(machine, state)
        + rows / rate(machine, SIZES[-1])
    )


def costs(workload: Workload) -> tuple[int, int, int]:
    """Operations and bytes of a step.

    Returns operations of its matrix products, bytes of parameters and optimiser slots, and bytes of
    the mini-batch's rows.
    """
    program = _program(workload)
    state = 4 * sum(array.size for array in program.parameters) * (1 + SLOTS[workload.optimizer])
    return (
        workload.batch_size * _operations_a_row(program),
        state,
        4 * workload.batch_size * workload.inputs,
    )


def _program(workload):
    return fnn.Network(
        list(workload.layers), inputs=workload.inputs, loss="softmax_cross_entropy", backend="numpy"
    ).program


def _operations_a_row(program):
    """Operations of the products: forward, weight gradient, and input gradient where needed."""
    dense = program.ops[program.ops["code"] == opcodes.DENSE]
    products = np.where(dense["x_grad"] == opcodes.GRAD_NONE, 2, 3)
    return int((2 * dense["n_in"] * dense["n_out"] * products).sum())


# --- measuring ------------------------------------------------------------------------------------


def _seconds(pieces: list[Piece]) -> float:
    """The least time that all pieces take to run once, each in its own thread."""
    with ThreadPoolExecutor(len(pieces)) as pool:

        def run(times):
            start = time.perf_counter()
            list(pool.map(lambda piece: piece(times), pieces))
            return time.perf_counter() - start

        run(1)  # compiles
        times = next(2**n for n in itertools.count() if run(2**n) > _SECONDS)
        return min(run(times) for _ in range(_TRIES)) / times


def _product_rate(pieces, shape, threads):
    """Operations a second of one shape.

    ``pieces`` makes the work of that many threads: one piece for each, or one that uses them all.
    """
    with threadpool_limits(1, "blas"):
        return 2 * np.prod(shape) * threads / _seconds(pieces(shape, threads))


def _matrices(m, depth, n):
    rng = np.random.default_rng(0)
    return (
        rng.random((m, depth), dtype=np.float32),
        rng.random((depth, n), dtype=np.float32),
        np.zeros((m, n), np.float32),
    )


def _tile_pieces(shape, threads):
    return [functools.partial(_products, *_matrices(*shape)) for _ in range(threads)]


def _numpy_pieces(shape, threads):
    def piece(a, b, c, times):
        for _ in range(times):
            np.matmul(a, b, out=c)

    return [functools.partial(piece, *_matrices(*shape)) for _ in range(threads)]


def _torch_pieces(shape, threads):
    """One piece with ``threads`` times the rows, as PyTorch has threads of its own."""
    import torch

    m, depth, n = shape
    a, b, c = map(torch.from_numpy, _matrices(m * threads, depth, n))

    def piece(times):
        torch.set_num_threads(threads)  # in this thread
        for _ in range(times):
            torch.mm(a, b, out=c)

    return [piece]


@kernel
def _products(a, b, c, times):
    for _ in range(times):
        gemm.gemm(False, False, 1.0, a, b, 0.0, c)


@numba.njit(nogil=True)
def _add_one(x, times):
    for _ in range(times):
        for i in range(len(x)):
            x[i] += np.float32(1)


# --- describing -----------------------------------------------------------------------------------


def _cpu():
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=fnn.num_threads())
    parser.add_argument("--json", help="file for the figures")
    options = parser.parse_args()
    machine = describe(options.threads)
    print(f"{machine['cpu']}, {machine['cores']} cores; {json.dumps(machine['versions'])}\n")
    print(
        report.table(
            ["products", "GFLOP/s"],
            [[name, report.figure(rate / 1e9)] for name, rate in machine["peaks"].items()],
        )
        + "\n"
    )
    rates = [
        [f"{size / 1024:g} KiB", report.figure(rate / 1e9)] for size, rate in machine["bandwidths"]
    ]
    print(report.table(["read and written", "GB/s"], rates) + "\n")
    bounds = [
        [workload.name, report.figure(lower_bound(workload, machine) * 1e6)]
        for workload in WORKLOADS
    ]
    print(report.table(["workload", "lower bound, µs a step"], bounds))
    report.write(options.json, {"date": arguments.today(), "machine": machine})


if __name__ == "__main__":
    main()
