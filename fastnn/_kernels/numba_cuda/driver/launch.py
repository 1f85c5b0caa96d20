"""What a plan is made of: kernel launches, and matrix products by cuBLASLt."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """One kernel launch."""

    kernel: str  # name in `entry_points.KERNELS`
    grid: int  # blocks
    block: int  # threads of a block
    shared: int = 0  # bytes of dynamic shared memory
    cooperative: bool = False  # all blocks run at once, as a grid barrier needs
    index: int = 0  # the operation that the kernel works on


@dataclass(frozen=True)
class Gemm:
    """One matrix product of operation ``index`` over ``rows`` rows, by cuBLASLt.

    "forward": work[y] = x W, "input": d_work[x] = or += d_z Wᵀ as `x_grad` says, "weight":
    gradient[weight] = xᵀ d_z.
    """

    kind: str
    index: int
    rows: int
    adds_bias: bool = False  # "forward": + b
