"""`race` finds threads that race, and passes those that do not."""

import pytest
from race import watched

from fastnn._kernels.numba_cuda.driver.device import open_device
from fastnn._kernels.numba_cuda.driver.launch import Launch
from fastnn._kernels.numba_cuda.kernels import control, entry_points
from fastnn._kernels.numba_cuda.kernels.blocks import grid_sync
from fastnn._kernels.numba_cuda.kernels.context import ARRAY_NAMES
from fastnn._kernels.numba_cuda.kernels.generated import entry_point
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device


def _run(monkeypatch, stage, grid, block=2):
    """Run a stage under watch, on a vector of sums and on ``control``."""
    machine = open_device()
    monkeypatch.setitem(entry_points.KERNELS, stage.__name__, entry_point(device(stage)))
    lengths = {"control": control.N_CONTROL, "sums": 8}
    integers = ("control", "order", "bounds", "labels")
    arguments = [
        machine.zeros(lengths.get(name, 0), "int64" if name in integers else "float64")
        for name in ARRAY_NAMES
    ]
    try:
        with watched():
            machine.launch(Launch(stage.__name__, grid, block, cooperative=True), arguments)
    finally:
        machine._entries.pop(stage.__name__)


def threads_at_a_barrier(ctx, index):
    ctx.doubles[cuda.threadIdx.x] = 1.0
    cuda.syncthreads()
    ctx.sums[cuda.threadIdx.x] = ctx.doubles[1 - cuda.threadIdx.x]


def threads_without_a_barrier(ctx, index):
    ctx.doubles[cuda.threadIdx.x] = 1.0
    ctx.sums[cuda.threadIdx.x] = ctx.doubles[1 - cuda.threadIdx.x]


def one_element_of_two_blocks(ctx, index):
    cuda.syncthreads()
    if cuda.threadIdx.x == 0 and cuda.blockIdx.x == 0:
        ctx.sums[0] = 1.0
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        ctx.sums[1 + cuda.blockIdx.x] = ctx.sums[0]


def blocks_at_a_grid_barrier(ctx, index):
    if cuda.threadIdx.x == 0 and cuda.blockIdx.x == 0:
        ctx.sums[0] = 1.0
    grid_sync(ctx.control, 0)
    if cuda.threadIdx.x == 1:
        ctx.sums[1 + cuda.blockIdx.x] = ctx.sums[0]


def a_block_that_arrives_early(ctx, index):
    if cuda.threadIdx.x == 1 and cuda.blockIdx.x == 0:
        ctx.sums[0] = 1.0
    if cuda.threadIdx.x == 0:
        cuda.atomic.add(ctx.control, control.BARRIER, 1)
    cuda.syncthreads()
    if cuda.threadIdx.x == 1:
        ctx.sums[1 + cuda.blockIdx.x] = ctx.sums[0]


def read_and_then_written(ctx, index):
    if cuda.threadIdx.x == 1:
        ctx.sums[1] = ctx.sums[0]
    if cuda.threadIdx.x == 0:
        ctx.sums[0] = 1.0


def two_barriers(ctx, index):
    if cuda.threadIdx.x == 0:
        cuda.syncthreads()
    else:
        cuda.syncthreads()


def a_negative_index(ctx, index):
    ctx.sums[cuda.threadIdx.x - 1] = 1.0


@pytest.mark.parametrize("stage", [threads_at_a_barrier, blocks_at_a_grid_barrier])
def test_what_is_ordered_passes(monkeypatch, stage):
    _run(monkeypatch, stage, 1 if stage is threads_at_a_barrier else 2)


@pytest.mark.parametrize(
    ("stage", "grid", "what"),
    [
        (threads_without_a_barrier, 1, "threads_without_a_barrier and"),
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
