"""The arguments of the CPU kernels, listed once.

`cpu_engine` makes a `KernelArguments`. The Numba kernel takes it as it is; for the Cython kernel
the build generates a C struct and the code that fills it (``tools/generate_pxi.py``).
"""

from typing import Annotated, NamedTuple

import numpy as np

# What an array holds, as C declares it. "real" is the network's dtype.
Reals = Annotated[np.ndarray, "real"]
Doubles = Annotated[np.ndarray, "double"]
Integers = Annotated[np.ndarray, "int64_t"]


class KernelArguments(NamedTuple):
    """What a kernel reads and writes, the same in every thread.

    A run trains (``backward`` and ``updates``), differentiates (``backward``), or predicts and, if
    ``evaluates``, takes the loss of the predictions. Empty arrays stand for what is absent.
    """

    barrier: Integers  # (3,) arrivals, threads asleep, spins before sleep: see numba_cpu/barrier.py
    ops: Annotated[np.ndarray, "Op"]  # the op table
    loss: Annotated[np.ndarray, "Loss"]  # (1,), or one for each output
    optimizer: Annotated[np.ndarray, "Optimizer"]  # (1,)
    theta: Reals  # (n_parameters,)
    gradient: Reals  # like θ; without ``updates`` the gradient, penalties included, is left here
    slots: Reals  # (slots of the optimiser, n_parameters)
    buffers: Reals  # BatchNorm's running statistics
    mu_product: Doubles  # (1,) NAdam's running product of μ
    work: Reals  # values, f′(z) · m and row statistics: see opcodes.OP
    d_work: Reals  # their gradients
    zeros: Reals  # the bias of operations that have none
    scratch: Reals  # (threads, n_scratch): BatchNorm's statistics
    split_k_partials: Reals  # (threads, capacity · n_out) where the first GEMM is split-K
    stats_scratch: Reals  # (threads, columns of the workspace + SUM_BLOCK) where steps are recorded
    thread_sums: Doubles  # (threads, 8), a cache line each: loss, correct weight, Σ gradient²
    capacity: int  # rows that the workspace has room for
    block_rows: int  # of an ensemble, carried forward and backward at a time; else 0
    output: int  # column offset of the raw output
    training: bool  # batch statistics, dropout, noise
    backward: bool  # take gradients
    updates: bool  # update parameters and running statistics
    evaluates: bool  # take the loss of what is predicted
    labels: Integers  # (n,), or empty where there are targets
    targets: Reals  # (n, n_outputs), or empty where there are labels
    weights: Reals  # (n,), or empty where each sample counts 1
    order: Integers  # samples in the order of their use
    bounds: Integers  # (steps + 1,): mini-batch k is order[bounds[k] : bounds[k + 1]]
    rates: Doubles  # (steps,) learning rates
    decays: Doubles  # (steps,) weight decays
    dropout: Doubles  # (steps, schedules) rates of dropout that have a schedule
    seed: Annotated[np.uint64, "uint64_t"]
    step: int  # number of the first step: the counter of masks and noise
    optimizer_step: int  # updates made before
    losses: Doubles  # (steps,) written: weighted mean loss of each mini-batch
    weight_sums: Doubles  # (steps,) written: Σ w
    correct_weights: Doubles  # (steps,) written: Σ w of the samples classified correctly
    every: int  # statistics are taken of steps whose number is a multiple; 0 for none
    statistics: Doubles  # (records, threads, operations, N_STATISTICS) written
