"""Penalties on weights: ½λ₂Σw² and λ₁Σ|w|, and where weight decay acts."""

import numpy as np

from fastnn._kernels.contract import Program
from fastnn._kernels.state import State


def penalty(program: Program, state: State) -> float:
    """½λ₂Σw² + λ₁Σ|w| over all Dense layers. θ, which may be on a GPU, is not read without need."""
    total = 0.0
    for op in program.ops:
        if op["l1"] > 0 or op["l2"] > 0:
            first = op["weight"]
            theta = state.read_only_copy("theta")
            w = theta[first : first + op["member_in"] * op["member_out"]].astype(np.float64)
            # Sums, not dot products: the threads of BLAS would spin while the next chunk wants the
            # cores.
            squares, magnitudes = float(np.square(w).sum()), float(np.abs(w).sum())
            with np.errstate(over="ignore"):  # an infinite loss is an error of its own
                total += 0.5 * op["l2"] * squares + op["l1"] * magnitudes
    return float(total)


def decay_factors(program: Program) -> np.ndarray:
    """A vector like θ: what weight decay is multiplied by at each number, 0 at biases."""
    factors = np.zeros(program.n_parameters)
    arrays = {array.offset: array for array in program.parameters}
    for op in program.ops:
        if op["weight"] >= 0:
            arrays[int(op["weight"])].view(factors)[...] = op["weight_decay"]
    return factors
