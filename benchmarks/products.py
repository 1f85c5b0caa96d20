"""GEMM of the Numba engine and of SciPy's BLAS on one core, float32.

    python benchmarks/products.py

Prints GFLOP/s of both for shapes m × depth × n of networks: forward, weight gradient (Aᵀ) and input
gradient (Bᵀ).
"""

import time

import numpy as np
from threadpoolctl import threadpool_limits

from fastnn._kernels.numba_cpu import blas, gemm
from fastnn._kernels.numba_cpu.compile import kernel

SHAPES = [
    (10, 784, 30, False, False),
    (784, 10, 30, True, False),
    (32, 16, 16, False, False),
    (128, 64, 64, False, False),
    (128, 64, 64, False, True),
    (64, 784, 256, False, False),
    (784, 128, 256, True, False),
    (64, 128, 256, False, True),
    (256, 1024, 1024, False, False),
    (1024, 256, 1024, True, False),
    (128, 1024, 1024, False, True),
]


@kernel
def by_tile(times, transpose_a, transpose_b, depth, a, b, c):
    """The engine's GEMM, repeated."""
    for _ in range(times):
        gemm.gemm(transpose_a, transpose_b, 1.0, a, b, 0.0, c)


@kernel
def by_blas(times, transpose_a, transpose_b, depth, a, b, c):
    """BLAS, repeated."""
    for _ in range(times):
        blas.gemm(transpose_a, transpose_b, depth, 1.0, a, b, 0.0, c)


def seconds(function, times, arguments):
    """Best of five, for one product."""
    function(1, *arguments)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        function(times, *arguments)
        best = min(best, (time.perf_counter() - start) / times)
    return best


def main():
    rng = np.random.default_rng(0)
    print(f"{'m × depth × n':>20s}  {'A':>2s} {'B':>2s}  {'BLAS':>8s} {'tile':>8s}  GFLOP/s")
    for m, depth, n, transpose_a, transpose_b in SHAPES:
        a = rng.random((depth, m) if transpose_a else (m, depth), dtype=np.float32)
        b = rng.random((n, depth) if transpose_b else (depth, n), dtype=np.float32)
        arguments = transpose_a, transpose_b, depth, a, b, np.zeros((m, n), np.float32)
        operations = 2e-9 * m * n * depth
        times = max(3, int(5 / operations / 100))
        with threadpool_limits(1, "blas"):
            rates = [
                operations / seconds(function, times, arguments) for function in (by_blas, by_tile)
            ]
        signs = ["ᵀ" if transposed else " " for transposed in (transpose_a, transpose_b)]
        shape = f"{m} × {depth} × {n}"
        cells = f"{shape:>20s}  {signs[0]:>2s} {signs[1]:>2s}  {rates[0]:8.1f} {rates[1]:8.1f}"
        print(cells)


if __name__ == "__main__":
    main()
