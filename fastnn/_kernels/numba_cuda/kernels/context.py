"""The arguments that every kernel of the CUDA engine takes, and the record that carries them.

All kernels take the same arrays in the same order, so that one way of launching serves them all. A
captured graph holds pointers: nothing that changes from step to step may be an argument. Such
numbers lie in device memory. The array ``control`` says which step is next, and kernels find the
step's samples, rates and masks by it.

`ARGUMENTS` is the only list of the arguments. The parameters of the entry points, the fields of
`KernelContext` and the types that kernels are compiled for are made from it.
"""

from collections import namedtuple

MAX_THREADS = 256  # of a block
CELLS = 16  # results of a matrix product that a thread accumulates at a time
TILE_ELEMENTS = MAX_THREADS * CELLS

# Names and kinds in the order of the kernels' parameters. The kind "real" is the network's dtype.
# An array that a network does not need has length 0.
ARGUMENTS = (
    ("ops", "ops"),  # op_table.OPERATION records
    ("loss", "loss"),  # one opcodes.LOSS record, or one for each output
    ("optimizer", "optimizer"),  # one record
    ("theta", "real"),
    ("gradient", "real"),
    ("slots", "real"),
    ("buffers", "real"),
    ("work", "real"),
    ("d_work", "real"),
    ("scratch", "real"),  # BatchNorm's statistics
    ("X", "real"),  # (n · n_inputs,)
    ("labels", "int64"),
    ("targets", "real"),  # (n · n_outputs,)
    ("weights", "real"),
    ("order", "int64"),
    ("bounds", "int64"),
    ("rates", "float64"),  # (steps · N_RATES,); see fastnn._kernels.step_rates
    ("dropout", "float64"),  # (schedules · steps · 2,); see op_table.dropout_table
    ("control", "int64"),  # see the module `control`
    ("sums", "float64"),  # partial sums over a mini-batch and over θ
    ("log", "float64"),  # (3 · steps,): losses, Σ w, Σ w of samples classified rightly
    ("statistics", "float64"),  # (records · blocks · operations · N_STATISTICS,)
    ("predictions", "real"),  # (rows · n_outputs,)
    ("index", "scalar"),  # the operation that a launch works on
)
# Of the arguments that are arrays.
ARRAY_NAMES = tuple(name for name, kind in ARGUMENTS if kind != "scalar")

# Shared memory of a block: name, elements, kind. Entry points declare it, because numba-cuda would
# define the array of a device function twice where two functions call that.
SHARED_ARRAYS = (
    ("tiles", TILE_ELEMENTS, "real"),  # fragments and partial sums of matrix products
    ("reals", MAX_THREADS, "real"),  # one a thread
    ("doubles", MAX_THREADS, "float64"),  # one a thread
    ("indices", MAX_THREADS, "int64"),  # one a thread
)

# What device functions pass to each other: the arrays, ``theta_out`` and the shared memory. Updates
# of θ are written to ``theta_out``; ``theta`` is read and may be a copy in shared memory.
KernelContext = namedtuple(
    "KernelContext", (*ARRAY_NAMES, "theta_out", *(name for name, _, _ in SHARED_ARRAYS))
)
