"""Validation: what users pass as X and weights becomes the arrays that engines take.

Every mistake in an array is named here, once. `targets` does the same for y.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike

if TYPE_CHECKING:
    from fastnn._kernels.numba_cuda.driver.gpu_arrays import GpuArray

# Checks go through an array in blocks of this size: no mask is as large as the data.
_BLOCK_BYTES = 1 << 20
# Weights whose largest lies between these stay as they are: their sums and reciprocals are exact
# enough in float32.
_SAFE_WEIGHTS = 2.0**-32, 2.0**32


def as_array(values: Any, name: str) -> np.ndarray:
    """Anything array-like as a NumPy array of any shape and dtype, sharing memory where it can.

    Parameters
    ----------
    values : array, DataFrame, list, or any object with ``__array__`` or ``__dlpack__``
    name : str
        What error messages call it.

    Raises
    ------
    TypeError
        For None, sparse matrices, and tensors that cannot be read from here (on a GPU, or with a
        gradient).
    ValueError
        For rows of unequal length and masked values.
    """
    # The usual case: a single prediction takes only microseconds.
    if type(values) is np.ndarray:
        return values
    if values is None:
        raise TypeError(f"{name} is None; expected an array")
    if hasattr(type(values), "toarray"):
        raise TypeError(
            f"{name} is sparse ({type(values).__name__}); "
            f"expected a dense array: use {name}.toarray()"
        )
    # Where nobody has loaded numpy.ma, nothing is masked.
    if "numpy.ma" in sys.modules and np.ma.is_masked(values):
        raise ValueError(f"{name} has masked values; fill or drop them first")
    try:
        if hasattr(values, "__dlpack__") and not hasattr(values, "__array__"):
            return np.from_dlpack(values)
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as an array: {error}") from error
    except (TypeError, RuntimeError, BufferError) as error:
        if is_on_gpu(values):
            raise TypeError(
                f'{name} lies on a GPU ({type(values).__name__}), where backend="cuda" alone reads '
                f"it; others need a copy on the host, such as {name}.cpu() of PyTorch or "
                f"{name}.get() of CuPy makes"
            ) from error
        raise TypeError(f"{name} cannot be read as an array: {error}") from error


def as_numbers(values: Any, name: str) -> np.ndarray:
    """Anything array-like as a NumPy array of real numbers, sharing memory where it can.

    Parameters
    ----------
    values, name
        As `as_array` takes them.

    Returns
    -------
    ndarray of any shape and of a bool, integer or float dtype

    Raises
    ------
    TypeError, ValueError
        Where `as_array` does, and a TypeError for text, dates, complex numbers and objects that are
        no numbers.
    """
    array = as_array(values, name)
    if array.dtype.kind in "OSTU":
        return _numbers_from_objects(array.astype(object), name)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} has dtype {array.dtype}; expected real numbers (bool, integer or float)"
        )
    return array


@overload
def as_features(
    X: Any,
    dtype: DTypeLike,
    n_inputs: int | None = None,
    name: str = "X",
    finite: bool = True,
    gpu: Literal[False] = False,
) -> np.ndarray: ...
@overload
def as_features(
    X: Any, dtype: DTypeLike, n_inputs: int | None, name: str, finite: bool, gpu: bool
) -> Any: ...
def as_features(
    X: Any,
    dtype: DTypeLike,
    n_inputs: int | None = None,
    name: str = "X",
    finite: bool = True,
    gpu: bool = False,
) -> Any:
    """Samples in rows, as engines take them.

    Parameters
    ----------
    X : array-like, (n, features)
        Any real dtype, memory order or container that `as_numbers` reads.
    dtype : numpy.float32 or numpy.float64
    n_inputs : int, optional
        The number of columns wanted.
    name : str
        What error messages call X.
    finite : bool
        Whether to look for NaN and infinity. With False the caller must. An array on a GPU is not
        looked at.
    gpu : bool
        Whether to take an array that lies on a GPU.

    Returns
    -------
    ndarray (n, features) of ``dtype``, C-contiguous and aligned
        X's own memory where it already is such an array, also when it is read-only or a memory map;
        else a copy. An array on a GPU stays there, as a `GpuArray`.

    Raises
    ------
    TypeError
        Where `as_numbers` does.
    ValueError
        Not 2-D, no rows or columns, another number of columns than ``n_inputs``, NaN, infinity, or
        a number too large for ``dtype``.
    """
    if (
        not finite
        and type(X) is np.ndarray
        and X.dtype == dtype
        and X.shape[1:] == (n_inputs,)
        and len(X) > 0
        and X.flags.c_contiguous
        and X.flags.aligned
    ):
        return X  # The checks below take longer than a small network's prediction.
    source = on_gpu(X, dtype, name) if gpu and is_on_gpu(X) else as_numbers(X, name)
    if source.ndim != 2:
        hint = f": one sample is {name}[None, :], one feature {name}[:, None]"
        raise ValueError(
            f"{name} is {source.ndim}-D with shape {source.shape}; "
            f"expected 2-D (samples, features){hint if source.ndim == 1 else ''}"
        )
    rows, columns = source.shape
    if rows == 0 or columns == 0:
        raise ValueError(
            f"{name} is empty: it has {rows} rows and {columns} columns; "
            "expected at least one of each"
        )
    if n_inputs is not None and columns != n_inputs:
        raise ValueError(f"{name} has {columns} columns, but the network takes {n_inputs}")
    return convert(source, dtype, name, finite) if isinstance(source, np.ndarray) else source


def check_codes(X: Any, cardinalities: Sequence[int], name: str = "X") -> None:
    """ValueError where one of the last columns of X holds something else than codes.

    Parameters
    ----------
    X : ndarray (n, features)
        Or one on a GPU, which is copied.
    cardinalities : sequence of int
        For each of the last columns the number of its codes, which begin with 0.
    """
    if not cardinalities:
        return
    if not isinstance(X, np.ndarray):  # a `GpuArray`
        X = X.to_host()
    codes = X[:, X.shape[1] - len(cardinalities) :]
    wrong = ~((codes >= 0) & (codes < np.asarray(cardinalities)) & (codes == np.floor(codes)))
    if wrong.any():
        row, k = np.argwhere(wrong)[0]
        column = X.shape[1] - len(cardinalities) + k
        raise ValueError(
            f"{name}[{row}, {column}] is {codes[row, k]:g}; column {column} holds codes, "
            f"whole numbers from 0 to {cardinalities[k] - 1}"
        )


def is_on_gpu(values: Any) -> bool:
    """Whether another library has put an array into the memory of an NVIDIA GPU."""
    if isinstance(values, np.ndarray | list | tuple | Mapping):
        return False
    from fastnn._kernels.numba_cuda.driver import array_interface

    return array_interface.is_on_gpu(values)


def on_gpu(values: Any, dtype: DTypeLike, name: str) -> "GpuArray":
    """An array on a GPU, to be read where it lies.

    Raises
    ------
    TypeError, ValueError
        Another dtype than ``dtype``, or not C-contiguous.
    """
    from fastnn._kernels.numba_cuda.driver.gpu_arrays import GpuArray

    array = GpuArray(values, name)
    if array.dtype != dtype:
        wanted = np.dtype(dtype).name
        raise TypeError(
            f"{name} is of {array.dtype} on the GPU, but the network is of {wanted}, and such an "
            f"array is read where it lies: convert it first, with {name}.astype({wanted!r}) in "
            f"CuPy or {name}.to(torch.{wanted}) in PyTorch"
        )
    return array


def on_host(values: Any, name: str) -> Any:
    """An array on a GPU as a NumPy array; anything else as it is."""
    if not is_on_gpu(values):
        return values
    from fastnn._kernels.numba_cuda.driver.gpu_arrays import GpuArray

    return GpuArray(values, name).to_host()


def as_sample_weight(w: Any, n: int, dtype: DTypeLike, name: str = "sample_weight") -> np.ndarray:
    """One weight per sample: (n,) of ``dtype``, rescaled as `rescaled_weights` does.

    Raises
    ------
    TypeError
        Where `as_numbers` does.
    ValueError
        Another shape, a weight that is negative or not finite, or all of them 0.
    """
    source = as_numbers(w, name)
    if source.ndim != 1:
        raise ValueError(f"{name} has shape {source.shape}; expected 1-D with {n} entries")
    if len(source) != n:
        raise ValueError(f"{name} has {len(source)} entries, but X has {n} rows")
    weight = convert(source, np.float64, name)
    require(weight >= 0, weight, name, "weights are 0 or more")
    if not weight.any():
        raise ValueError(f"{name} is zero for every sample; at least one must count")
    return rescaled_weights(weight, dtype)


def rescaled_weights(weight: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Weights (n,) of float64 as ``dtype``, whose sums neither overflow nor vanish there.

    Losses are weighted means, so a common factor of the weights cancels. Where the largest is very
    large or very small, all are divided by a power of two near it, which rounds nothing. A weight
    that is then subnormal in ``dtype`` becomes 0, as engines flush it.
    """
    largest = weight.max()
    if not _SAFE_WEIGHTS[0] <= largest <= _SAFE_WEIGHTS[1]:
        weight = np.ldexp(weight, -np.frexp(largest)[1])
    scaled = weight.astype(dtype)
    scaled[scaled < np.finfo(dtype).tiny] = 0
    return scaled


def _numbers_from_objects(array: np.ndarray, name: str) -> np.ndarray:
    """Numbers out of an object array.

    Whole numbers stay integers, so that labels in an object column remain labels.
    """
    for index, cell in np.ndenumerate(array):
        if isinstance(cell, str | bytes):
            raise TypeError(
                f"{name} is {cell!r}{_at(index)}; encode text as numbers first "
                "(class names: labels = np.unique(names, return_inverse=True)[1])"
            )
        try:
            float(cell)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(f"{name} is {cell!r}{_at(index)}; expected a number") from None
    numbers = np.array(array.tolist()).reshape(array.shape)
    return numbers.astype(np.float64) if numbers.dtype == object else numbers


def convert(source: np.ndarray, dtype: DTypeLike, name: str, finite: bool = True) -> np.ndarray:
    """``source`` as a C-contiguous, aligned array of ``dtype``.

    With ``finite``, an element that is not finite there is a ValueError.
    """
    array, flags = source, source.flags
    if source.dtype != dtype or not (flags.c_contiguous and flags.aligned):
        with np.errstate(over="ignore"):  # `_check_finite` names an overflow
            array = np.require(source, dtype, ("C", "A"))
    if finite and source.dtype.kind == "f":
        _check_finite(array, source, name)
    return array


def _check_finite(array: np.ndarray, source: np.ndarray, name: str) -> None:
    flat, step = array.reshape(-1), _BLOCK_BYTES // array.itemsize
    for start in range(0, flat.size, step):
        finite = np.isfinite(flat[start : start + step])
        if not finite.all():
            index = np.unravel_index(start + int(finite.argmin()), array.shape)
            problem = "every number must be finite"
            if np.isfinite(source[index]):
                problem = f"too large for {array.dtype}"
            raise ValueError(f"{name} is {source[index]}{_at(index)}; {problem}")


def require(valid: np.ndarray, array: np.ndarray, name: str, rule: str) -> None:
    """ValueError naming the first element of ``array`` whose ``valid`` is false."""
    if not valid.all():
        index = np.unravel_index(int(valid.argmin()), valid.shape)
        raise ValueError(f"{name} is {array[index]}{_at(index)}; {rule}")


def _at(index: tuple[Any, ...]) -> str:
    """Where an element is: its row, and its column if the array has any."""
    return "".join(
        f"{join} {axis} {i}"
        for join, axis, i in zip((" at", ","), ("row", "column"), index, strict=False)
    )
