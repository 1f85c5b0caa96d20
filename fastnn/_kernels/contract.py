"""The contract between `Network` and an engine: what engines are given and what they give back.

An engine is made for one `Program`. It keeps no state between calls but its workspace: everything
that is learnt lives in the `State` that it is handed, so a network can be saved, or moved to
another engine, between any two chunks. Only inside `Engine.resident` may the newest numbers be on a
device, and a `State` that is read copies them to the host by itself.
"""

import contextlib
import math
import mmap
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from fastnn._kernels.state import State

DTYPES = ("float32", "float64")  # that engines compute in
# that the CUDA engine multiplies float32 matrices in; float32 means as they are
PRECISIONS = ("float32", "tf32", "bf16")
_HUGE = 1 << 21  # bytes of a huge page on x86-64, and on most of ARM


@dataclass(frozen=True)
class ArrayInfo:
    """One named array inside a flat vector."""

    name: str
    offset: int
    shape: tuple[int, ...]
    # weight, bias, scale, shift, alpha, table; mean, variance or first_rows of buffers
    kind: str
    init: Any = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def view(self, vector: np.ndarray) -> np.ndarray:
        """The array as a view of ``vector``."""
        return vector[self.offset : self.offset + self.size].reshape(self.shape)


@dataclass(frozen=True)
class Program:
    """A network lowered to flat buffers and an op table; see `opcodes.OP`."""

    ops: np.ndarray
    parameters: tuple[ArrayInfo, ...]
    buffers: tuple[ArrayInfo, ...]
    n_inputs: int
    n_outputs: int  # of one member, where the network is an ensemble
    output: int  # column offset of the raw output
    n_parameters: int  # length of θ, padding included
    n_buffers: int
    n_columns: int  # workspace columns a sample needs
    n_scratch: int  # batch-independent scratch, per thread
    loss: np.ndarray  # one opcodes.LOSS record, or one for each output
    dtype: np.dtype
    # of the last columns of X, which hold codes of categories
    cardinalities: tuple[int, ...] = ()
    members: int = 1  # whose raw outputs lie one after the other
    # of the CUDA engine's products, one of PRECISIONS; parameters are of ``dtype`` whatever it says
    precision: str = "float32"
    schedules: tuple[Any, ...] = ()  # of dropout rates over the optimiser's steps

    def dropout_rates(self, first: int, steps: int) -> np.ndarray:
        """Scheduled rates of dropout at steps from ``first`` on: (steps, schedules) float64.

        Raises
        ------
        ValueError
            A rate outside of [0, 1).
        """
        rates = np.zeros((steps, len(self.schedules)))
        for i, schedule in enumerate(self.schedules):
            rates[:, i] = schedule.rates(first, steps)
            inside = (rates[:, i] >= 0) & (rates[:, i] < 1)
            if not inside.all():
                k = int(inside.argmin())
                raise ValueError(
                    f"rate of Dropout must lie in [0, 1); {schedule!r} gives {rates[k, i]:g} "
                    f"at step {first + k}"
                )
        return rates

    def new_vector(self) -> np.ndarray:
        """A zero vector of θ's length and dtype."""
        return aligned_zeros(self.n_parameters, self.dtype)

    def new_vectors(self, n: int) -> np.ndarray:
        """n such vectors as an (n, n_parameters) array."""
        return aligned_zeros(n * self.n_parameters, self.dtype).reshape(n, self.n_parameters)


def aligned_zeros(n: int, dtype: np.dtype) -> np.ndarray:
    """A zero vector that begins on a cache line, so that vector loads never straddle two.

    A large one lies in huge pages where the system has them: walking down the columns of a wide
    weight then touches few pages.
    """
    size = n * dtype.itemsize
    raw, alignment = (
        _huge_pages(size)
        if size >= _HUGE // 2 and hasattr(mmap, "MADV_HUGEPAGE")
        else (np.zeros(size + 64, np.uint8), 64)
    )
    start = -raw.ctypes.data % alignment
    return raw[start : start + size].view(dtype)


def _huge_pages(size):
    try:
        memory = mmap.mmap(
            -1, -(-size // _HUGE) * _HUGE + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
    except (OSError, OverflowError) as error:
        raise MemoryError(f"unable to allocate {size} bytes") from error
    with contextlib.suppress(OSError):  # a kernel built without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8), _HUGE


@dataclass(frozen=True)
class Samples:
    """Training data as engines take it: C-contiguous, finite, of the program's dtype.

    Exactly one of ``labels`` and ``values`` is given.
    """

    X: Any  # ndarray (n, n_inputs); for the CUDA engine also an array that lies on the GPU
    labels: np.ndarray | None = None  # (n,) int64
    values: np.ndarray | None = None  # (n, n_outputs)
    weights: np.ndarray | None = None  # (n,)
    classify: bool = False  # whether the targets stand for classes

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: np.ndarray) -> "Samples":
        """A copy of the samples ``rows``."""
        labels, values, weights = (
            None if part is None else part[rows]
            for part in (self.labels, self.values, self.weights)
        )
        return Samples(self.X[rows], labels, values, weights, self.classify)


@dataclass
class StepLog:
    """One entry per mini-batch taken.

    ``finite`` is false where the loss of the last one was not: its update was not made.
    """

    losses: np.ndarray  # weighted mean of the per-sample losses, without penalties
    weights: np.ndarray  # Σ wᵢ
    correct_weight: np.ndarray  # Σ wᵢ of samples classified correctly; 0 for regression losses
    statistics: np.ndarray  # (recorded steps, operations, opcodes.N_STATISTICS) float64
    finite: bool = True


@dataclass(frozen=True)
class Evaluation:
    """Outputs for a data set, and the loss there."""

    outputs: np.ndarray  # (n, n_outputs), raw; of an ensemble the mean of its members' linked ones
    loss: float  # weighted mean of the per-sample losses, without penalties
    weight: float  # Σ wᵢ
    correct_weight: float  # Σ wᵢ of samples classified correctly; 0 for regression losses


@dataclass(frozen=True)
class Chunk:
    """Consecutive mini-batches, which an engine runs without Python in between.

    Mini-batch k takes the samples ``order[bounds[k] : bounds[k + 1]]`` at learning rate
    ``rates[k]`` and weight decay ``weight_decays()[k]``.
    """

    order: np.ndarray  # int64
    bounds: np.ndarray  # (steps + 1,) int64
    rates: np.ndarray  # (steps,) float64
    optimizer: np.ndarray = field(repr=False)  # one opcodes.OPTIMIZER record
    # Of the mini-batches; the last of an epoch may be shorter. The number of threads follows from
    # it, however an epoch is cut into chunks.
    batch_size: int
    every: int = 0  # statistics are taken of steps whose number is a multiple of it; 0 for none
    decays: np.ndarray | None = None  # (steps,) float64; None: the optimizer's own at every step

    def weight_decays(self) -> np.ndarray:
        """The optimiser's weight decay at each step, (steps,) float64."""
        if self.decays is None:
            return np.full(len(self.rates), self.optimizer["weight_decay"][0])
        return self.decays

    def recorded(self, step: int) -> np.ndarray:
        """Which of the chunk's steps have their statistics taken; ``step`` numbers the first."""
        if not self.every:
            return np.zeros(0, np.int64)
        return np.flatnonzero((step + np.arange(len(self.rates))) % self.every == 0)


class Engine(Protocol):
    """What each engine offers."""

    def __init__(self, program: Program): ...

    def train_steps(self, state: State, samples: Samples, chunk: Chunk) -> StepLog:
        """Take the chunk's steps, changing ``state`` in place.

        The engine stops before the update of a step whose loss is not finite.
        """
        ...

    def gradients(
        self, state: State, samples: Samples, training: bool, measure: bool = False
    ) -> tuple[StepLog, np.ndarray]:
        """The gradient of loss plus penalties over all samples as one batch, a vector like θ.

        ``state`` stays as it is. With ``training`` BatchNorm uses batch statistics, and dropout and
        noise act with the masks of step ``state.step``. With ``measure`` the log has the statistics
        of the pass, if its loss is finite. The gradient of a loss that is not finite is NaN.
        """
        ...

    def forward(self, state: State, X: np.ndarray, linked: bool = False) -> tuple[np.ndarray, bool]:
        """Outputs (n, n_outputs) in inference mode, raw or ``linked`` by the loss's link.

        Raw outputs of an ensemble are those of all members, (n, members · n_outputs); linked ones
        the mean over members.

        Inference mode means running statistics, no dropout, no noise. X need not be finite: a row
        with NaN or infinity gives a row of NaN. The second result is whether all rows were finite.
        """
        ...

    def evaluate(self, state: State, samples: Samples) -> Evaluation:
        """Outputs, loss and Σ w of samples classified correctly, in inference mode."""
        ...

    def is_finite(self, X: Any) -> bool:
        """Whether every number of X is finite; X is an array as `Samples` has it."""
        ...

    def resident(self, state: State, *samples: Samples) -> AbstractContextManager[None]:
        """While inside, ``state`` may stay in device memory from call to call.

        So may ``samples``, which must not change. On the way out, also by an exception, the arrays
        of ``state`` are up to date. Outside, each call reads the host's arrays anew.
        """
        ...
