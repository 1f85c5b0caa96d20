"""Slots of the kernels' argument ``control``, an array of int64 in device memory."""

CAPACITY = 0  # rows that the workspace has room for
OUTPUT = 1  # column offset of the raw output
TRAINING = 2  # whether dropout, noise and batch statistics act
BACKWARD = 3  # whether a backward pass follows, for which f′(z) is stored where it must be
UPDATES_BUFFERS = 4  # whether running statistics are updated
SEED = 5  # bits of a uint64
STEP = 6  # number of the chunk's first step: the counter of masks and noise
OPTIMIZER_STEP = 7  # updates before the chunk since the optimiser's state began
EVERY = 8  # statistics are taken of each step whose number is a multiple of it; 0 for none
STEPS = 9  # steps of the chunk
K = 10  # the current step; after a chunk the number of losses written
STOPPED = 11  # set once a loss is not finite: nothing changes any more
FIRST = 12  # first row of X to predict
ROWS = 13  # number of rows to predict
LINK = 14  # link that predictions are passed through
NONFINITE = 15  # set where a checked number, or a row to predict, is not finite
RECORD = 16  # records of statistics written
BARRIER = 17  # arrivals of blocks at the grid barrier; 0 before a launch
THETA_IN_SHARED = 18  # whether the persistent kernel reads θ from a copy in shared memory
WORK_IN_SHARED = 19  # and whether its workspaces are there too, which takes a grid of one block
AVERAGES = 20  # whether predictions are the mean over members of an ensemble
N_CONTROL = 32
