"""What one thread sees of a run."""

from typing import NamedTuple

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cpu.compile import inline


class Frame(NamedTuple):
    """The buffers and constants of a run, the same in every thread but for ``rank``.

    The rows of a mini-batch are shared out: thread ``rank`` of ``n_threads`` owns rows `share`
    (batch size, rank, n_threads), and the same way its share of every parameter array. Where
    `cuts_features`, it owns columns of the input instead of rows.
    """

    rank: int
    n_threads: int
    counter: np.ndarray  # (1,) int64: see sync.py
    ops: np.ndarray  # op table
    theta: np.ndarray
    gradient: np.ndarray  # like θ
    slots: np.ndarray  # (slots, length of θ), flat
    buffers: np.ndarray
    work: np.ndarray  # values, f′(z) · m and row statistics: see opcodes.OP
    d_work: np.ndarray  # their gradients
    zeros: np.ndarray  # the bias of operations that have none
    scratch: np.ndarray  # BatchNorm's statistics, one part per thread, flat
    # (threads, capacity, n_out): parts of the first z where it `cuts_features`, else empty; flat
    parts: np.ndarray
    # (threads, columns of the workspace + STRETCH) where statistics are taken: see measure.py; flat
    notes: np.ndarray
    capacity: int  # rows that the workspace has room for
    training: bool  # batch statistics, dropout, noise
    learning: bool  # running statistics move
    backward: bool  # f′(z) · m is wanted
    seed: int


@inline
def cuts_features(frame, op):
    """Whether threads share this operation's product by features of the input rather than by rows
    of the mini-batch.

    Then a thread reads and updates only its own rows of the weight and its own columns of X, which
    stay in its cache; sums move instead.
    """
    return op.x == oc.INPUT and len(frame.parts) > 0
