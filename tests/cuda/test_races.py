"""No two threads of a kernel race, in blocks of several warps too; and `race` finds those that
do.
"""

import pytest
from race import watched

from fastnn._kernels.numba_cuda.driver.device import open_device
from fastnn._kernels.numba_cuda.driver.launch import Launch
from fastnn._kernels.numba_cuda.kernels import entry_points
from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.kernels.blocks import meet
from fastnn._kernels.numba_cuda.runtime.workspace import NAMES
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device


def _run(monkeypatch, stage, grid, block=2):
    """Run a stage under watch, on a vector of sums and the control."""
    machine = open_device()
    monkeypatch.setitem(entry_points.KERNELS, stage.__name__, entry_points._entry(device(stage)))
    lengths = {"control": fr.N_CONTROL, "sums": 8}
    integers = ("control", "order", "bounds", "labels")
    arguments = [
        machine.zeros(lengths.get(name, 0), "int64" if name in integers else "float64")
        for name in NAMES
    ]
    try:
        with watched():
            machine.launch(Launch(stage.__name__, grid, block, together=True), arguments)
    finally:
        machine._entries.pop(stage.__name__)


def neighbours_in_a_block(frame, index):
    frame.doubles[cuda.threadIdx.x] = 1.0
    cuda.syncthreads()
    frame.sums[cuda.threadIdx.x] = frame.doubles[1 - cuda.threadIdx.x]


def neighbours_without_a_barrier(frame, index):
    frame.doubles[cuda.threadIdx.x] = 1.0
    frame.sums[cuda.threadIdx.x] = frame.doubles[1 - cuda.threadIdx.x]


def one_element_of_two_blocks(frame, index):
    cuda.syncthreads()
    if cuda.threadIdx.x == 0 and cuda.blockIdx.x == 0:
        frame.sums[0] = 1.0
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        frame.sums[1 + cuda.blockIdx.x] = frame.sums[0]


def blocks_that_meet(frame, index):
    if cuda.threadIdx.x == 0 and cuda.blockIdx.x == 0:
        frame.sums[0] = 1.0
    meet(frame.control, 0)
    if cuda.threadIdx.x == 1:
        frame.sums[1 + cuda.blockIdx.x] = frame.sums[0]


def a_block_that_arrives_early(frame, index):
    if cuda.threadIdx.x == 1 and cuda.blockIdx.x == 0:
        frame.sums[0] = 1.0
    if cuda.threadIdx.x == 0:
        cuda.atomic.add(frame.control, fr.BARRIER, 1)
    cuda.syncthreads()
    if cuda.threadIdx.x == 1:
        frame.sums[1 + cuda.blockIdx.x] = frame.sums[0]


def read_and_then_written(frame, index):
    if cuda.threadIdx.x == 1:
        frame.sums[1] = frame.sums[0]
    if cuda.threadIdx.x == 0:
        frame.sums[0] = 1.0


def two_barriers(frame, index):
    if cuda.threadIdx.x == 0:
        cuda.syncthreads()
    else:
        cuda.syncthreads()


def a_negative_index(frame, index):
    frame.sums[cuda.threadIdx.x - 1] = 1.0


@pytest.mark.parametrize("stage", [neighbours_in_a_block, blocks_that_meet])
def test_what_is_ordered_passes(monkeypatch, stage):
    _run(monkeypatch, stage, 1 if stage is neighbours_in_a_block else 2)


@pytest.mark.parametrize(
    ("stage", "grid", "what"),
    [
        (neighbours_without_a_barrier, 1, "neighbours_without_a_barrier and"),
        (one_element_of_two_blocks, 2, "one_element_of_two_blocks and"),
        (a_block_that_arrives_early, 2, "a_block_that_arrives_early and"),
        (read_and_then_written, 1, "read_and_then_written and"),
        (two_barriers, 1, "a barrier for some threads"),
        (a_negative_index, 1, "element -1 of 8"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_not_is_found(monkeypatch, stage, grid, what):
    with pytest.raises(AssertionError, match=what):
        _run(monkeypatch, stage, grid)
