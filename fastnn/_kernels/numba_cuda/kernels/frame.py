"""What every kernel of the CUDA engine is given: the same arrays in the same order, so that one way
of launching serves them all.

A captured graph holds pointers, and nothing that changes from step to step may be an argument. So
all that changes lies in device memory: `control` says which step is next, and the kernels read the
step's samples, rate and masks by it.
"""

from typing import Any, NamedTuple

MOST_THREADS = 256  # of a block
CELLS = 16  # results of a matrix product that a thread has at a time
TILES = MOST_THREADS * CELLS

# In the order of the kernels' parameters. real is the network's dtype; an array that a network does
# not need has length 0.
ARGUMENTS = (
    ("ops", "ops"),  # table.OPERATION records
    ("loss", "loss"),  # one opcodes.LOSS record
    ("rule", "rule"),  # one opcodes.RULE record
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
    ("rates", "float64"),  # (N_RATES · steps,): see `rates`
    ("control", "int64"),
    ("sums", "float64"),  # parts of sums over the mini-batch and over θ
    ("log", "float64"),  # (3 · steps,): losses, weight sums, hits
    ("statistics", "float64"),  # (records · parts · operations · N_STATISTICS,)
    ("predictions", "real"),  # (rows · n_outputs,)
    ("index", "scalar"),  # the operation that a launch is about
)

# --- slots of ``control`` -------------------------------------------------------------------------
CAPACITY = 0  # rows there is room for in the workspace
OUTPUT = 1  # column offset of the raw output
TRAINING = 2  # dropout, noise and batch statistics act
BACKWARD = 3  # a way back follows: f′(z) is stored where it must be
LEARNING = 4  # running statistics move
SEED = 5  # bits of a uint64
STEP = 6  # number of the chunk's first step, the counter of masks and noise
OPTIMIZER_STEP = 7  # updates made before the chunk since the optimiser's state began
EVERY = 8  # statistics are taken of each step whose number is a multiple of it; 0 for none
STEPS = 9  # in the chunk
K = 10  # the step at hand; after a chunk the number of losses written
STOPPED = 11  # a loss was not finite: nothing changes any more
FIRST = 12  # first row of X to predict
ROWS = 13  # rows to predict
LINK = 14  # link to apply to them
POISONED = 15  # a row to predict was not finite
RECORD = 16  # records of statistics written
BARRIER = 17  # blocks that have arrived at meetings so far; 0 before a launch
THETA_ON_CHIP = 18  # the persistent kernel reads θ from a copy in shared memory
WORK_ON_CHIP = 19  # and has its workspace there: one block alone can
N_CONTROL = 32


class Frame(NamedTuple):
    """The arguments, on their way through device functions."""

    ops: Any
    loss: Any
    rule: Any
    theta: Any
    gradient: Any
    slots: Any
    buffers: Any
    work: Any
    d_work: Any
    scratch: Any
    X: Any
    labels: Any
    targets: Any
    weights: Any
    order: Any
    bounds: Any
    rates: Any
    control: Any
    sums: Any
    log: Any
    statistics: Any
    predictions: Any
    home: Any  # where updates of θ are written; ``theta`` may be a copy in shared memory
    # Shared memory of the block. Kernels declare it: in a device function that two others call,
    # numba-cuda would define it twice.
    tiles: Any  # real, for parts of products
    reals: Any  # of the network's dtype, one a thread
    doubles: Any  # float64, one a thread
    places: Any  # int64, one a thread
