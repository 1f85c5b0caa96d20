"""A GPU that is none: memory of NumPy's, and kernels that let the reference engine do the work.
What is tested with it is the host's side.

Copies on the second stream are made as late as they may be, new memory is full of NaN, and what
goes over the bus is counted.
"""

import dataclasses
import types

import numpy as np

from fastnn import engines
from fastnn._kernels import opcodes
from fastnn._kernels.contract import Chunk, Samples, State
from fastnn._kernels.numba_cuda import engine
from fastnn._kernels.numba_cuda.driver import gpu_arrays
from fastnn._kernels.numba_cuda.driver.launch import Launch
from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.kernels.op_table import operations
from fastnn._kernels.reference import link
from fastnn._kernels.reference_engine import ReferenceEngine

NAMES = [name for name, kind in fr.ARGUMENTS if kind != "scalar"]
PARTS = 2


class Buffer:
    def __init__(self, array):
        self.array, self.n, self.dtype, self.nbytes = array, len(array), array.dtype, array.nbytes

    def view(self, offset, n):
        assert 0 <= offset <= offset + n <= self.n
        return Buffer(self.array[offset : offset + n])


class Event:
    """A place in the second stream's work, which is done when somebody waits for it."""

    def __init__(self, work):
        self._work, self._last = work, work[-1]

    def synchronize(self):
        while any(copy is self._last for copy in self._work):
            buffer, array = self._work.pop(0)
            buffer.array[:] = array


class Graph:
    def __init__(self, work):
        self.launches = 0
        self._work = work

    def launch(self, times=1):
        for _ in range(times):
            self.launches += 1
            self._work()


class Kernels:
    """What kernels do, on NumPy arrays by the names of the frame."""

    def __init__(self):
        self.engines = {}  # a program's address: it, and the reference engine for it

    def run(self, name, a):
        if a.control[fr.STOPPED] == 0:
            getattr(self, f"_{name}")(a)

    def _reference(self, a):
        for program, reference in self.engines.values():
            if (
                operations(program.ops).tobytes() == a.ops.tobytes()
                and program.dtype == a.theta.dtype
            ):
                assert len(a.work) == a.control[fr.CAPACITY] * program.n_columns
                return reference
        raise AssertionError("a program that nobody planned")

    def _state(self, a, k=0):
        slots = a.slots.reshape(-1, len(a.theta))
        first, updates = int(a.control[fr.STEP]) + k, int(a.control[fr.OPTIMIZER_STEP]) + k
        return State(
            a.theta,
            a.buffers,
            int(a.control[[fr.SEED]].view(np.uint64)[0]),
            slots,
            np.ones(1),
            first,
            updates,
        )

    def _samples(self, a, program, rows):
        X = a.X[: len(a.X) // program.n_inputs * program.n_inputs].reshape(-1, program.n_inputs)
        targets = a.targets[: len(a.targets) // program.n_outputs * program.n_outputs].reshape(
            -1, program.n_outputs
        )
        labels, values = (a.labels, None) if len(a.labels) else (None, targets)
        return Samples(X, labels, values, a.weights if len(a.weights) else None).take(rows)

    def _step(self, a):
        reference, k = self._reference(a), int(a.control[fr.K])
        rows = a.order[a.bounds[k] : a.bounds[k + 1]]
        batch = self._samples(a, reference.program, rows)
        rates = a.rates[: 4 * int(a.control[fr.STEPS])].reshape(-1, 4)
        every = int(a.control[fr.EVERY])
        chunk = Chunk(
            np.arange(len(rows)),
            np.array([0, len(rows)]),
            rates[k : k + 1, 0],
            a.rule,
            len(rows),
            every,
        )
        log = reference.train_steps(self._state(a, k), batch, chunk)
        self._write(a, k, log, every)

    def _train(self, a):
        for _ in range(int(a.control[fr.STEPS])):
            if a.control[fr.STOPPED] == 0:
                self._step(a)

    def _gradient(self, a):
        reference = self._reference(a)
        batch, every = (
            self._samples(a, reference.program, a.order[: a.bounds[1]]),
            int(a.control[fr.EVERY]),
        )
        log, gradient = reference.gradients(
            self._state(a), batch, bool(a.control[fr.TRAINING]), every > 0
        )
        a.gradient[:] = gradient
        self._write(a, 0, log, every)

    def _write(self, a, k, log, every):
        steps = int(a.control[fr.STEPS])
        a.log[[k, steps + k, 2 * steps + k]] = log.losses[0], log.weights[0], log.correct_weight[0]
        if len(log.statistics):
            size = log.statistics.size
            place = int(a.control[fr.RECORD]) * PARTS * size
            a.statistics[place : place + size] = log.statistics.reshape(-1)
            a.control[fr.RECORD] += 1
        a.control[fr.K], a.control[fr.STOPPED] = k + 1, not log.finite

    def _predict(self, a):
        reference, (first, rows) = self._reference(a), a.control[[fr.FIRST, fr.ROWS]]
        X = self._samples(
            types.SimpleNamespace(X=a.X, targets=a.targets, labels=a.labels, weights=[]),
            reference.program,
            slice(None),
        ).X
        z, finite = reference.forward(self._state(a), X[first : first + rows])
        linked = z if a.control[fr.LINK] == opcodes.IDENTITY else link(reference.program.loss, z)
        a.predictions[: linked.size] = linked.reshape(-1)
        a.control[fr.POISONED] |= not finite

    def _finite(self, a):
        a.control[fr.POISONED] |= not np.isfinite(a.theta).all()


class Device(Kernels):
    name, simulated, compute_capability, multiprocessors, shared_per_block, warp_block = (
        "fake",
        True,
        (9, 0),
        4,
        1 << 16,
        32,
    )
    can_meet = False
    memory = 1 << 30

    def __init__(self):
        super().__init__()
        self.uploads, self.downloads, self.recordings, self.launches = [], [], 0, 0
        self.fail = None  # what the next launch raises
        self.aside = []  # copies that are not done yet

    def free_memory(self):
        return self.memory

    def empty(self, n, dtype):
        array = np.empty(n, dtype)
        array.view(np.uint8).fill(0xFF)
        return Buffer(array)

    def zeros(self, n, dtype):
        return Buffer(np.zeros(n, dtype))

    def upload(self, buffer, array):
        assert array.shape == (buffer.n,)
        assert array.dtype == buffer.dtype
        self.uploads.append(array.nbytes)
        buffer.array[:] = array

    def download(self, buffer, array=None):
        self.downloads.append(buffer.nbytes)
        if array is None:
            return buffer.array.copy()
        assert array.shape == (buffer.n,)
        assert array.flags.c_contiguous
        array[:] = buffer.array
        return array

    def copy(self, target, source):
        assert target.n == source.n
        target.array[:] = source.array

    def fill_zero(self, buffer):
        buffer.array.view(np.uint8).fill(0)

    def prepare(self, names, dtype):
        pass

    def record(self, work):
        self.recordings += 1
        return Graph(work)

    def synchronize(self):
        pass

    def pinned(self, n, dtype):
        return np.zeros(n, dtype)

    def upload_aside(self, buffer, array):
        self.uploads.append(array.nbytes)
        self.aside.append((buffer, array))
        return Event(self.aside)

    def wait(self, event):
        event.synchronize()

    def borrow(self, array):
        interface = array.__cuda_array_interface__
        if interface.get("strides") is not None:
            raise ValueError("an array on the GPU must be C-contiguous: make a copy of it that is")
        return Buffer(array.memory.reshape(-1))

    def launch(self, launch, arguments):
        self.launches += 1
        if self.fail is not None:
            error, self.fail = self.fail, None
            raise error
        assert len(arguments) == len(NAMES)
        a = types.SimpleNamespace(
            **{name: buffer.array for name, buffer in zip(NAMES, arguments, strict=True)}
        )
        self.run(launch.kernel, a)


class Plan:
    """One launch a chunk, or one a step."""

    path, kernels = "persistent", None

    def __init__(self, program, limits, library=False):
        self.kernels.engines[id(program)] = program, ReferenceEngine(program)

    def parts(self, rows):
        return PARTS

    def sums(self, rows):
        return 5

    def rows_at_once(self, rows):
        return rows

    def rows_a_pass(self, rows):
        return min(rows, 7)

    def control(self, rows):
        return {}

    def train(self, rule, batch_size, every):
        if rule["code"][0] == opcodes.NO_UPDATE:
            return [Launch("gradient", 1, 32)]
        return [Launch("train" if self.path == "persistent" else "step", 1, 32)]

    def forward(self, rows):
        return [Launch("predict", 1, 32)]


class OnGpu:
    """A user's array on this GPU."""

    def __init__(self, array, strides=None):
        self.memory, self.shape, self.dtype = np.ascontiguousarray(array), array.shape, array.dtype
        self._strides = strides

    @property
    def __cuda_array_interface__(self):
        memory = self.memory.__array_interface__["data"]
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": memory,
            "version": 3,
            "strides": self._strides,
        }

    def __array__(self, dtype=None, copy=None):
        raise TypeError("implicit conversion to a NumPy array is not allowed")


def install(monkeypatch, path="persistent", device=None, kernels=None):
    """Make backend "cuda" run on a new fake device, or on a device that somebody else runs these
    kernels for. The device is returned.
    """
    device = Device() if device is None else device
    monkeypatch.setattr(engine, "open_device", lambda: device)
    monkeypatch.setattr(gpu_arrays, "open_device", lambda: device)
    monkeypatch.setattr(
        engine, "Plan", type("Plan", (Plan,), {"path": path, "kernels": kernels or device})
    )
    monkeypatch.setitem(
        engines.ENGINES,
        "cuda",
        dataclasses.replace(engines.ENGINES["cuda"], unavailable_reason=lambda: None),
    )
    return device
