"""The table of kernels: every entry point that the host launches, each a stage around which a frame
is put.
"""

from collections.abc import Callable

import numpy as np

from fastnn._kernels.numba_cuda.kernels import finite_check, persistent, stages
from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.kernels.frame import MOST_THREADS, TILES, Frame
from fastnn._kernels.numba_cuda.toolchain.shim import SIMULATED, cuda

# bytes: four numbers are read at once; the simulator knows of none
_ALIGNMENT = None if SIMULATED else 16


def _entry(stage: Callable) -> Callable:
    """The kernel of a stage. Once a loss was not finite the launches that still come do nothing."""

    def kernel(
        ops, loss, rule, theta, gradient, slots, buffers, work, d_work, scratch, X, labels, targets, weights, order, bounds, rates, control,
        sums, log, statistics, predictions, index,
    ):  # fmt: skip
        if control[fr.STOPPED] == 0:
            tiles = cuda.shared.array(TILES, theta.dtype, _ALIGNMENT)
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
    "finite": _entry(finite_check.look),
    "load": _entry(stages.load),
    "dense": _entry(stages.dense),
    "wide_dense": _entry(stages.wide_dense),
    "statistics": _entry(stages.statistics),
    "other": _entry(stages.other),
    "predictions": _entry(stages.predictions),
    "loss": _entry(stages.loss_and_gradient),
    "conclude": _entry(stages.conclude),
    "finish_backward": _entry(stages.finish_backward),
    "dense_input": _entry(stages.dense_input),
    "wide_input": _entry(stages.wide_input),
    "finish_input": _entry(stages.finish_input),
    "sums": _entry(stages.sums),
    "other_backward": _entry(stages.other_backward),
    "measure": _entry(stages.measure_values),
    "gradients": _entry(stages.gradients),
    "gradient": _entry(stages.gradient),
    "wide_gradient": _entry(stages.wide_gradient),
    "finish_gradient": _entry(stages.finish_gradient),
    "squares": _entry(stages.squares),
    "apply": _entry(stages.apply),
    "constrain": _entry(stages.constrain),
}
