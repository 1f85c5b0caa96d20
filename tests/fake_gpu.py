"""A fake GPU to test the host side: NumPy memory, and kernels that call the reference engine.

Copies on the second stream are made as late as possible, new memory is full of NaN, and copies
between host and device are counted.
"""

import dataclasses
import types

import numpy as np
from training_cases import noisy

from fastnn import engines
from fastnn._kernels import opcodes
from fastnn._kernels.contract import Chunk, Samples, State
from fastnn._kernels.numba_cuda import engine
from fastnn._kernels.numba_cuda.driver import gpu_arrays
from fastnn._kernels.numba_cuda.driver.launch import Launch
from fastnn._kernels.numba_cuda.kernels import control
from fastnn._kernels.numba_cuda.kernels.context import ARRAY_NAMES
from fastnn._kernels.numba_cuda.kernels.op_table import operations
from fastnn._kernels.reference import link
from fastnn._kernels.reference_engine import ReferenceEngine
from fastnn.training import loop

BLOCKS = 2  # that statistics and loss sums come from


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
    """What kernels do, on NumPy arrays by the names of `context.ARGUMENTS`."""

    def __init__(self):
        self.engines = {}  # a program's address: it, and the reference engine for it

    def run(self, name, a):
        if a.control[control.STOPPED] == 0:
            getattr(self, f"_{name}")(a)

    def _reference(self, a):
        for program, reference in self.engines.values():
            if (
                operations(program.ops).tobytes() == a.ops.tobytes()
                and program.dtype == a.theta.dtype
            ):
                assert len(a.work) == a.control[control.CAPACITY] * program.n_columns
                return reference
        raise AssertionError("a program that nobody planned")

    def _state(self, a, k=0):
        slots = a.slots.reshape(-1, len(a.theta))
        first, updates = (
            int(a.control[control.STEP]) + k,
            int(a.control[control.OPTIMIZER_STEP]) + k,
        )
        return State(
            a.theta,
            a.buffers,
            int(a.control[[control.SEED]].view(np.uint64)[0]),
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
        reference, k = self._reference(a), int(a.control[control.K])
        rows = a.order[a.bounds[k] : a.bounds[k + 1]]
        batch = self._samples(a, reference.program, rows)
        rates = a.rates[: 5 * int(a.control[control.STEPS])].reshape(-1, 5)
        every = int(a.control[control.EVERY])
        chunk = Chunk(
            np.arange(len(rows)),
            np.array([0, len(rows)]),
            rates[k : k + 1, 0],
            a.optimizer,
            len(rows),
            every,
            rates[k : k + 1, 4],
        )
        log = reference.train_steps(self._state(a, k), batch, chunk)
        self._write(a, k, log, every)

    def _train(self, a):
        for _ in range(int(a.control[control.STEPS])):
            if a.control[control.STOPPED] == 0:
                self._step(a)

    def _gradient(self, a):
        reference = self._reference(a)
        batch, every = (
            self._samples(a, reference.program, a.order[: a.bounds[1]]),
            int(a.control[control.EVERY]),
        )
        log, gradient = reference.gradients(
            self._state(a), batch, bool(a.control[control.TRAINING]), every > 0
        )
        a.gradient[:] = gradient
        self._write(a, 0, log, every)

    def _write(self, a, k, log, every):
        steps = int(a.control[control.STEPS])
        a.log[[k, steps + k, 2 * steps + k]] = log.losses[0], log.weights[0], log.correct_weight[0]
        if len(log.statistics):
            size = log.statistics.size
            place = int(a.control[control.RECORD]) * BLOCKS * size
            a.statistics[place : place + size] = log.statistics.reshape(-1)
            a.control[control.RECORD] += 1
        a.control[control.K], a.control[control.STOPPED] = k + 1, not log.finite

    def _predict(self, a):
        reference, (first, rows) = self._reference(a), a.control[[control.FIRST, control.ROWS]]
        X = self._samples(
            types.SimpleNamespace(X=a.X, targets=a.targets, labels=a.labels, weights=[]),
            reference.program,
            slice(None),
        ).X
        z, finite = reference.forward(self._state(a), X[first : first + rows])
        linked = (
            z if a.control[control.LINK] == opcodes.IDENTITY else link(reference.program.loss, z)
        )
        a.predictions[: linked.size] = linked.reshape(-1)
        a.control[control.NONFINITE] |= not finite

    def _evaluate(self, a):
        self._predict(a)
        reference, (first, rows) = self._reference(a), a.control[[control.FIRST, control.ROWS]]
        samples = self._samples(a, reference.program, np.arange(first, first + rows))
        found = reference.evaluate(self._state(a), samples)
        sums = np.array([found.loss * found.weight, found.weight, found.correct_weight])
        a.sums[:6] += np.tile(sums / BLOCKS, BLOCKS)

    def _check_finite(self, a):
        a.control[control.NONFINITE] |= not np.isfinite(a.theta).all()


class Device(Kernels):
    name, simulated, compute_capability, multiprocessors, shared_per_block, warp_block = (
        "fake",
        True,
        (9, 0),
        4,
        1 << 16,
        32,
    )
    cooperative = False
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

    def unowned_view(self, array):
        interface = array.__cuda_array_interface__
        if interface.get("strides") is not None:
            raise ValueError("an array on the GPU must be C-contiguous: make a copy of it that is")
        return Buffer(array.memory.reshape(-1))

    def launch(self, launch, arguments):
        self.launches += 1
        if self.fail is not None:
            error, self.fail = self.fail, None
            raise error
        assert len(arguments) == len(ARRAY_NAMES)
        a = types.SimpleNamespace(
            **{name: buffer.array for name, buffer in zip(ARRAY_NAMES, arguments, strict=True)}
        )
        self.run(launch.kernel, a)


class Plan:
    """One launch a chunk, or one a step."""

    path, kernels = "persistent", None

    def __init__(self, program, limits, cublaslt=False):
        self.kernels.engines[id(program)] = program, ReferenceEngine(program)

    def statistics_blocks(self, rows):
        return BLOCKS

    def n_sums(self, rows):
        return 5

    def evaluation_blocks(self, rows):
        return BLOCKS

    def workspace_rows(self, rows):
        return rows

    def rows_per_pass(self, rows):
        return min(rows, 7)

    def control(self, rows):
        return {}

    def train(self, optimizer, batch_size, every):
        if optimizer["code"][0] == opcodes.NO_UPDATE:
            return [Launch("gradient", 1, 32)]
        return [Launch("train" if self.path == "persistent" else "step", 1, 32)]

    def predict(self, rows, evaluates=False):
        return [Launch("evaluate" if evaluates else "predict", 1, 32)]


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
    """Make backend "cuda" run on a fake device, and return it.

    With ``device`` it is that one, and its owner runs ``kernels``.
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


def one_step_chunks(monkeypatch):
    """Let a training take chunks of one step each."""
    monkeypatch.setattr(loop, "_FIRST_CHUNK_OPERATIONS", 0)
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0)


def pair(make=noisy, **options):
    """The same network on the fake GPU and on the reference."""
    return make(backend="cuda", **options), make(backend="numpy", **options)
