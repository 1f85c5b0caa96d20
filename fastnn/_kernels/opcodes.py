"""Codes and record layouts that the lowering writes and every engine reads.

A `Program` is an array of ``OP`` records. Engines interpret it inside compiled code, so a network
that was never seen before compiles nothing. `fastnn/_kernels/README.md` explains the design; this
file is its vocabulary.
"""

import numpy as np

from fastnn._kernels.tables import ACTIVATIONS, LOSSES, OPTIMIZERS

# --- operations: what turns the input value(s) of a layer into z ----------------------------------
DENSE = 0  # z = c · x W + b
BATCH_NORM = 1  # z = scale · (x − μ_batch) / √(σ²_batch + ε) + shift, column by column
LAYER_NORM = 2  # z = scale · (x − μ_row) / √(σ²_row + ε) + shift, row by row
ADD = 3  # z = x + skip: the end of a residual block
NOISE = 4  # z = x + std · N(0, 1) while training
ELEMENTWISE = 5  # z = x: a free-standing activation or dropout
SCALE = 6  # z = scale ⊙ x
EMBEDDING = 7  # z = [x without its codes, a row of a table for each code], of the mini-batch itself
PARAMETRIC = 8  # z = x + α ⊙ (f(x) − x), with f the activation `inner`
PIECEWISE = 9  # z = [x_f a_f + Σ_t v_t(x_f) W_ft + b_f for each feature f, the other columns of x]
PERIODIC = (
    10  # z = [cos φ, sin φ if there are two parts, the last columns of x], φ = 2π x_f w_f + b_f
)
FEATURE_DENSE = 11  # z = [f(v_f W_f + b_f) for each feature f, the other columns of x], f = `inner`
# Behind these a row of a value holds one row of each member of an ensemble, one after the other: it
# is `members` rows of a DENSE, which all members share.
MEMBER_SCALE = 12  # z_m = scale_m ⊙ x_m + b_m for each member m; or of the same x for all
HEADS = 13  # z_m = x_m W_m + b_m

OPERATIONS = {
    "dense": DENSE,
    "batch_norm": BATCH_NORM,
    "layer_norm": LAYER_NORM,
    "add": ADD,
    "noise": NOISE,
    "elementwise": ELEMENTWISE,
    "scale": SCALE,
    "embedding": EMBEDDING,
    "parametric": PARAMETRIC,
    "piecewise": PIECEWISE,
    "periodic": PERIODIC,
    "feature_dense": FEATURE_DENSE,
    "member_scale": MEMBER_SCALE,
    "heads": HEADS,
}

# --- activations, losses, optimisers: rows of `tables` --------------------------------------------
# Every operation ends in the same epilogue y = f(z) · m, with m the dropout mask. These activations
# have a meaning beside their formula.
LINEAR, SIGMOID, RELU = (ACTIVATIONS[name].code for name in ("linear", "sigmoid", "relu"))

# A loss takes the raw output z of the last operation. Cross-entropies also count the samples
# classified correctly.
SOFTMAX_CROSS_ENTROPY = LOSSES["softmax_cross_entropy"].code
BINARY_CROSS_ENTROPY = LOSSES["binary_cross_entropy"].code

QUANTILE = LOSSES["quantile"].code  # has a constant for each output

# links: what ``predict`` makes of raw outputs
IDENTITY, SOFTMAX, LOGISTIC, EXPONENTIAL, SORTED = range(5)
LINKS = {
    "identity": IDENTITY,
    "softmax": SOFTMAX,
    "sigmoid": LOGISTIC,
    "exp": EXPONENTIAL,
    "sort": SORTED,
}

NO_UPDATE = -1  # leave the gradient in the gradient buffer: `gradients`, L-BFGS
SGD, NADAM = OPTIMIZERS["sgd"].code, OPTIMIZERS["nadam"].code
# SGD with a velocity updates by other formulas than plain SGD: codes of formulas, not of records.
MOMENTUM, NESTEROV = len(OPTIMIZERS), len(OPTIMIZERS) + 1

# --- random streams (Philox counter word 3): see philox.py ----------------------------------------
STREAM_SHUFFLE = 0
STREAM_SPLIT = 1
STREAM_INIT = 1 << 16  # + number of the parameter array
STREAM_MASK = 2 << 16  # + number of the operation: dropout
STREAM_NOISE = 3 << 16  # + number of the operation: Gaussian noise

# --- statistics of a step: N_STATISTICS sums for each operation, which add up over threads --------
# The first four are of operations with a weight or scale.
DELTA = 0  # Σ over units of (Σ over samples of ∂C/∂z)², whether there is a bias or not
GRADIENT = 1  # Σ (∂C/∂w)², penalties included, before clipping
WEIGHT = 2  # Σ w² before the update
UPDATE = 3  # Σ (Δw)², before a max-norm constraint acts
VALUES = 4  # Σ y
SQUARES = 5  # Σ y²
DEAD = 6  # units of ReLU that put out 0 for every sample of the mini-batch
SATURATED = 7  # values beyond their activation's saturation bounds, among those dropout keeps
N_STATISTICS = 8
SUM_BLOCK = 2048  # elements summed in the network's dtype: rounding stays below 1e-6 in float32

# --- what backward does with the gradient of an operation's input ---------------------------------
GRAD_NONE = 0  # nobody needs it: no parameter lies before
GRAD_WRITE = 1  # the first to write
GRAD_ADD = 2  # another consumer of the value has written before

INPUT = 0  # column offset of the mini-batch itself in the workspace

# A value (the input, or what an operation puts out) of width n at column offset o occupies
# workspace[o·C : (o + n)·C] row by row, C being the workspace's capacity in rows. Its gradient lies
# at the same place of a second workspace. Offsets of −1 mean "absent".
OP = np.dtype(
    [
        ("code", np.int64),
        ("activation", np.int64),
        # activation that PARAMETRIC mixes with the identity; that of FEATURE_DENSE, linear or ReLU
        ("inner", np.int64),
        ("n_in", np.int64),
        ("n_out", np.int64),
        ("members", np.int64),  # of an ensemble; 1 where there is none
        # widths of one member's input and output: n_in and n_out where there is one member
        ("member_in", np.int64),
        ("member_out", np.int64),
        ("codes", np.int64),  # columns of EMBEDDING's input that hold codes, its last ones
        # numbers that PIECEWISE and PERIODIC encode, the first columns of their input
        ("features", np.int64),
        ("bins", np.int64),  # T, the most that a feature of PIECEWISE has
        # columns that EMBEDDING makes of a code, PIECEWISE and FEATURE_DENSE of a feature
        ("size", np.int64),
        ("rows", np.int64),  # of all tables of EMBEDDING
        ("frequencies", np.int64),  # K, angles that PERIODIC makes of a feature
        # 1 where PERIODIC puts out cosines, 2 where it puts out cosines, then sines. A part has
        # features · K columns, those of a feature side by side; FEATURE_DENSE reads them.
        ("parts", np.int64),
        ("shared", np.int64),  # whether one map of FEATURE_DENSE serves every feature
        ("x", np.int64),  # column offset of the input value
        ("y", np.int64),  # column offset of the output value
        ("skip", np.int64),  # column offset of the second input of ADD
        ("aux", np.int64),  # column offset of f′(z) · m, where it is stored
        # column offset of PARAMETRIC's ∂z/∂x; or of sin φ of PERIODIC, then of ∂C/∂φ
        ("slope", np.int64),
        ("change", np.int64),  # column offset of PARAMETRIC's f(x) − x
        ("row_stats", np.int64),  # column offset of LAYER_NORM's mean and 1/σ, two values a row
        # offset in the per-thread scratch: BATCH_NORM's statistics, PIECEWISE's sums, and the
        # gradients of MEMBER_SCALE's scale and bias over the rows of a thread
        ("column_stats", np.int64),
        # offset in θ: weight (member_in, member_out), of HEADS one for each member, tables (rows of
        # all, size), scale or α (n_out,), or W and as its last row a of each feature (features,
        # bins + 1, size); or w of PERIODIC (features, K); or W of FEATURE_DENSE (features,
        # parts · K, size), without features where it is shared
        ("weight", np.int64),
        # offset in θ: bias (member_out,) of DENSE, else bias or shift (n_out,), or (features,
        # size), or (features, K) of PERIODIC, or (size,) of a shared FEATURE_DENSE
        ("bias", np.int64),
        # offset in the buffers: running mean (n_out,), then running variance (n_out,); or the first
        # row of each of EMBEDDING's tables, and the rows of all (codes + 1,); or of each feature of
        # PIECEWISE the number of its bins, then their edges (features, bins + 2)
        ("state", np.int64),
        ("schedule", np.int64),  # place in Program.schedules of the dropout rate
        ("stream", np.int64),  # number of the operation, added to STREAM_MASK and STREAM_NOISE
        ("x_grad", np.int64),  # GRAD_…
        ("skip_grad", np.int64),  # GRAD_…
        ("alpha", np.float64),  # constant of the activation
        ("factor", np.float64),  # c of DENSE
        ("weight_rate", np.float64),  # factors of the learning rate
        ("bias_rate", np.float64),
        ("weight_decay", np.float64),  # factors of the optimiser's weight decay; 0 for none
        ("bias_decay", np.float64),
        ("rate", np.float64),  # dropout rate of the epilogue, 0 for none; 1 if it has a schedule
        ("epsilon", np.float64),
        ("momentum", np.float64),
        ("std", np.float64),
        ("l1", np.float64),
        ("l2", np.float64),
        ("max_norm", np.float64),  # 0 for none
    ],
    align=True,
)

COLUMN_STATS = 6  # vectors of n_out that BATCH_NORM keeps per thread: see numba_cpu/norm.py

# An optimiser, as engines see it. One record type for all: what an optimiser does not use stays 0.
OPTIMIZER = np.dtype(
    [
        ("code", np.int64),
        ("nesterov", np.int64),
        ("beta1", np.float64),  # momentum of SGD, ρ of AdaDelta and RMSProp, β₁ of the Adams
        ("beta2", np.float64),
        ("epsilon", np.float64),
        ("momentum_decay", np.float64),  # ψ of NAdam
        ("weight_decay", np.float64),  # 0 where a schedule has it: see contract.Chunk
        ("clip_value", np.float64),  # 0 for none
        ("clip_norm", np.float64),  # 0 for none
    ],
    align=True,
)

# A loss, as engines see it; ``constant`` is its constant of the table, 0 where it has none. A loss
# with levels is a record for each output of a member, whose constant is the output's level. Where
# the network has several members, its raw output holds theirs one after the other. Each is compared
# with the target, and the loss of a sample is the mean of theirs.
LOSS = np.dtype(
    [
        ("code", np.int64),
        ("link", np.int64),
        ("members", np.int64),
        ("linked", np.int64),  # offset in the per-thread scratch: one sample's outputs, linked
        ("constant", np.float64),
    ],
    align=True,
)
