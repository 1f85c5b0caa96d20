"""What a plan is made of: kernel launches, and matrix products that a library does."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """One kernel launch."""

    kernel: str  # name in `kernels.KERNELS`
    grid: int  # blocks
    block: int  # threads of a block
    shared: int = 0  # bytes of dynamic shared memory
    together: bool = False  # all blocks run at once, as those must that meet
    index: int = 0  # the operation that it is about


@dataclass(frozen=True)
class Product:
    """One matrix product of operation ``index`` over ``rows`` rows.

    "forward": work[y] = x W, "input": d_work[x] = or += d_z Wᵀ as `x_grad` says, "weight":
    gradient[weight] = xᵀ d_z.
    """

    kind: str
    index: int
    rows: int
    adds_bias: bool = False  # "forward": + b
