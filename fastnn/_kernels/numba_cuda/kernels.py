"""The table of kernels: every entry point that the host launches, each a stage around which a frame is put."""

from collections.abc import Callable

import numpy as np

from fastnn._kernels.numba_cuda import finite, persistent
from fastnn._kernels.numba_cuda import frame as fr
from fastnn._kernels.numba_cuda.frame import MOST_THREADS, TILES, Frame
from fastnn._kernels.numba_cuda.shim import cuda


def _entry(stage: Callable) -> Callable:
    """The kernel of a stage. Once a loss was not finite the launches that still come do nothing."""

    def kernel(
        ops, loss, rule, theta, gradient, slots, buffers, work, d_work, scratch, X, labels, targets, weights, order, bounds, rates, control,
        sums, log, statistics, predictions, index,
    ):  # fmt: skip
        if control[fr.STOPPED] == 0:
            tiles = cuda.shared.array(TILES, theta.dtype)
            reals = cuda.shared.array(MOST_THREADS, theta.dtype)
            doubles = cuda.shared.array(MOST_THREADS, np.float64)
            places = cuda.shared.array(MOST_THREADS, np.int64)
            frame = Frame(
                ops, loss, rule, theta, gradient, slots, buffers, work, d_work, scratch, X, labels, targets, weights, order, bounds, rates,
                control, sums, log, statistics, predictions, theta, tiles, reals, doubles, places,
            )  # fmt: skip
            stage(frame, index)

    return kernel


KERNELS: dict[str, Callable] = {
    "train": _entry(persistent.train),
    "predict": _entry(persistent.predict),
    "finite": _entry(finite.look),
}
