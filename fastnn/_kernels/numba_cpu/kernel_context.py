"""What the functions of a kernel share: `KernelContext`, made of the kernel's arguments."""

from typing import NamedTuple

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cpu.compile import inline
from fastnn._kernels.numba_cpu.views import matrix, unowned_view


class KernelContext(NamedTuple):
    """The buffers and constants of a run, the same in every thread but for ``rank``.

    `fastnn._kernels.kernel_arguments` says what each holds. Thread ``rank`` of ``n_threads`` owns
    the rows `partition(batch size, rank, n_threads)` of a mini-batch, and the same part of every
    parameter array. Where `splits_k`, it owns columns of the input instead of rows.
    """

    rank: int
    n_threads: int
    barrier: np.ndarray
    ops: np.ndarray
    loss: np.ndarray
    theta: np.ndarray
    gradient: np.ndarray
    slots: np.ndarray  # flat, as all that follow
    buffers: np.ndarray
    work: np.ndarray
    d_work: np.ndarray
    zeros: np.ndarray
    scratch: np.ndarray
    split_k_partials: np.ndarray
    stats_scratch: np.ndarray
    dropout: np.ndarray  # (steps, schedules)
    capacity: int
    training: bool
    updates: bool
    backward: bool
    seed: int
    step: int


@inline
def context_of(rank, n_threads, arguments):
    """The context of one thread. Its views own nothing: see `views`."""
    return KernelContext(
        rank=rank,
        n_threads=n_threads,
        barrier=unowned_view(arguments.barrier),
        ops=unowned_view(arguments.ops),
        loss=unowned_view(arguments.loss),
        theta=unowned_view(arguments.theta),
        gradient=unowned_view(arguments.gradient),
        slots=unowned_view(arguments.slots.reshape(-1)),
        buffers=unowned_view(arguments.buffers),
        work=unowned_view(arguments.work),
        d_work=unowned_view(arguments.d_work),
        zeros=unowned_view(arguments.zeros),
        scratch=unowned_view(arguments.scratch.reshape(-1)),
        split_k_partials=unowned_view(arguments.split_k_partials.reshape(-1)),
        stats_scratch=unowned_view(arguments.stats_scratch.reshape(-1)),
        dropout=unowned_view(arguments.dropout),
        capacity=arguments.capacity,
        training=arguments.training,
        updates=arguments.updates,
        backward=arguments.backward,
        seed=arguments.seed,
        step=arguments.step,
    )


@inline
def dropout_rate(ctx, op, step):
    """Rate of an operation's dropout at step number ``step``."""
    return op.rate if op.schedule < 0 else ctx.dropout[step - ctx.step, op.schedule]


@inline
def splits_k(ctx, op):
    """Whether threads share this operation's GEMM by features of the input, not by rows: split-K.

    Then a thread reads and updates only its own rows of the weight and its own columns of X, which
    stay in its cache; partial sums move between cores instead.
    """
    return op.x == oc.INPUT and len(ctx.split_k_partials) > 0


@inline
def rows_of(ctx, workspace, column, width, first_row, n_rows):
    """Rows of the value, or of its gradient, of this width at a column offset of a workspace."""
    return matrix(workspace, column * ctx.capacity + first_row * width, n_rows, width)
