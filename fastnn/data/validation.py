"""What users pass becomes the arrays engines take, and every mistake in it is named here, once, at
the door.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

if TYPE_CHECKING:
    from fastnn._kernels.numba_cuda.driver.gpu_arrays import GpuArray

# checks go through an array in pieces of this size: no mask as large as the data
_BLOCK_BYTES = 1 << 20
_SUM_TOLERANCE = 1e-3  # how far from 1 the probabilities of a sample may sum
# these take integer class labels as one-hot rows
_LABEL_LOSSES = ("binary_cross_entropy", "mse", "quadratic")


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
    # the usual case, and a single prediction takes only microseconds
    if type(values) is np.ndarray:
        return values
    if values is None:
        raise TypeError(f"{name} is None; expected an array")
    if hasattr(type(values), "toarray"):
        raise TypeError(
            f"{name} is sparse ({type(values).__name__}); expected a dense array: use {name}.toarray()"
        )
    if np.ma.is_masked(values):
        raise ValueError(f"{name} has masked values; fill or drop them first")
    try:
        if hasattr(values, "__dlpack__") and not hasattr(values, "__array__"):
            return np.from_dlpack(values)
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as an array: {error}") from error
    except (TypeError, RuntimeError, BufferError) as error:
        if is_on_gpu(values):
            problem = f'{name} lies on a GPU ({type(values).__name__}), where backend="cuda" alone reads it; others need a copy on the host'
            raise TypeError(
                f"{problem}, such as {name}.cpu() of PyTorch or {name}.get() of CuPy makes"
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


def as_features(
    X: Any,
    dtype: DTypeLike,
    n_inputs: int | None = None,
    name: str = "X",
    finite: bool = True,
    gpu: bool = False,
) -> "np.ndarray | GpuArray":
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
        Whether to look for NaN and infinity; a caller who does not must. An array on a GPU is not
        looked at.
    gpu : bool
        Whether to take an array that lies on a GPU.

    Returns
    -------
    ndarray (n, features) of ``dtype``, C-contiguous and aligned
        X's own memory if that is so already, also when X is read-only or a memory map; else a copy.
        An array on a GPU stays there.

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
        return X  # at once, as the checks below take longer than a small network's prediction
    source = on_gpu(X, dtype, name) if gpu and is_on_gpu(X) else as_numbers(X, name)
    if source.ndim != 2:
        hint = (
            f": one sample is {name}[None, :], one feature {name}[:, None]"
            if source.ndim == 1
            else ""
        )
        raise ValueError(
            f"{name} is {source.ndim}-D with shape {source.shape}; expected 2-D (samples, features){hint}"
        )
    rows, columns = source.shape
    if rows == 0 or columns == 0:
        raise ValueError(
            f"{name} is empty: it has {rows} rows and {columns} columns; expected at least one of each"
        )
    if n_inputs is not None and columns != n_inputs:
        raise ValueError(f"{name} has {columns} columns, but the network takes {n_inputs}")
    return _convert(source, dtype, name, finite) if isinstance(source, np.ndarray) else source


def is_on_gpu(values: Any) -> bool:
    """Whether an array lies in the memory of an NVIDIA GPU, in which other libraries have put
    it.
    """
    if isinstance(values, np.ndarray | list | tuple | Mapping):
        return False
    from fastnn._kernels.numba_cuda.driver.array_interface import is_on_gpu

    return is_on_gpu(values)


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
            f"{name} is of {array.dtype} on the GPU, but the network is of {wanted}, and such an array is read where it lies: convert it "
            f"first, with {name}.astype({wanted!r}) in CuPy or {name}.to(torch.{wanted}) in PyTorch"
        )
    return array


def on_host(values: Any, name: str) -> Any:
    """An array on a GPU as a NumPy array; anything else as it is."""
    if not is_on_gpu(values):
        return values
    from fastnn._kernels.numba_cuda.driver.gpu_arrays import GpuArray

    return GpuArray(values, name).to_host()


def as_sample_weight(w: Any, n: int, dtype: DTypeLike, name: str = "sample_weight") -> np.ndarray:
    """One weight per sample: (n,) of ``dtype``, finite, none negative and not all zero; otherwise
    ValueError or TypeError.
    """
    source = as_numbers(w, name)
    if source.ndim != 1:
        raise ValueError(f"{name} has shape {source.shape}; expected 1-D with {n} entries")
    if len(source) != n:
        raise ValueError(f"{name} has {len(source)} entries, but X has {n} rows")
    weight = _convert(source, dtype, name)
    _require(weight >= 0, weight, name, "weights are 0 or more")
    if not weight.any():
        raise ValueError(f"{name} is zero for every sample; at least one must count")
    return weight


@dataclass(frozen=True, eq=False)
class Targets:
    """What a network shall answer: either class labels or values, the other being None.

    Attributes
    ----------
    labels : ndarray (n,) of int64, or None
    values : ndarray (n, outputs) of the network's dtype, or None
    """

    labels: np.ndarray | None = None
    values: np.ndarray | None = None

    @property
    def is_labels(self) -> bool:
        """Whether these are class labels."""
        return self.labels is not None

    def __len__(self) -> int:
        return len(self.labels if self.is_labels else self.values)

    def take(self, index: Any) -> "Targets":
        """The targets of the samples that ``index`` (integers, mask or slice) picks."""
        return (
            Targets(labels=self.labels[index])
            if self.is_labels
            else Targets(values=self.values[index])
        )


def as_targets(y: Any, n: int, n_outputs: int, loss_name: str, dtype: DTypeLike) -> Targets:
    """Targets for ``n`` samples, as a loss takes them.

    - softmax_cross_entropy: whole numbers of any dtype, (n,) or (n, 1), are labels; (n, outputs)
      probabilities, one-hot or not, are values.
    - binary_cross_entropy: values from 0 to 1; integer labels become one-hot values.
    - mse, quadratic: finite values; integer labels become one-hot values.
    - any other loss: finite values, which poisson wants to be 0 or more.

    Values are (n, outputs), or (n,) for a network of one output. Labels lie in 0 to outputs - 1.

    Parameters
    ----------
    y : array-like
        Any container that `as_numbers` reads.
    n, n_outputs : int
        Samples, and outputs of the network.
    loss_name : str
    dtype : numpy.float32 or numpy.float64
        Of the values; labels are int64.

    Returns
    -------
    Targets

    Raises
    ------
    TypeError
        Where `as_numbers` does, above all for text labels.
    ValueError
        A wrong shape, or a target outside what the loss takes; it names the first offending row.
    """
    source = as_numbers(y, "y")
    if source.ndim not in (1, 2):
        raise ValueError(f"y is {source.ndim}-D with shape {source.shape}; expected 1-D or 2-D")
    if len(source) != n:
        raise ValueError(f"y has {len(source)} rows, but X has {n}")
    is_column = source.ndim == 1 or source.shape[1] == 1
    if loss_name == "softmax_cross_entropy":
        return (
            Targets(labels=_as_labels(source, n_outputs))
            if is_column
            else Targets(values=_as_probabilities(source, n_outputs, dtype))
        )
    if loss_name in _LABEL_LOSSES and is_column and n_outputs > 1 and source.dtype.kind in "biu":
        return Targets(values=one_hot(_as_labels(source, n_outputs), n_outputs, dtype))
    values = _as_values(source, n_outputs, dtype)
    if loss_name == "binary_cross_entropy":
        _require(
            (values >= 0) & (values <= 1),
            values,
            "y",
            "binary_cross_entropy takes numbers from 0 to 1",
        )
    if loss_name == "poisson":
        _require(values >= 0, values, "y", "poisson takes numbers of 0 or more")
    return Targets(values=values)


def class_weights(
    class_weight: Mapping[int, float] | str, labels: np.ndarray, n_classes: int
) -> np.ndarray:
    """The weight of each sample that follows from its class.

    Parameters
    ----------
    class_weight : mapping of class to weight, or "balanced"
        A class the mapping lacks counts 1. "balanced" weighs class c by n / (n_classes * n_c), n_c
        being its number of samples, so that all classes count alike.
    labels : ndarray (n,) of integers in 0 to n_classes - 1
    n_classes : int

    Returns
    -------
    ndarray (n,) of float64

    Raises
    ------
    ValueError
        An unknown class, a weight that is negative or not finite, or another word than "balanced".
    TypeError
        Neither a mapping nor a word.
    """
    if isinstance(class_weight, Mapping):
        unknown = [label for label in class_weight if label not in range(n_classes)]
        if unknown:
            raise ValueError(
                f"class_weight names class {unknown[0]!r}; the classes are 0 to {n_classes - 1}"
            )
        weights = as_numbers(list(class_weight.values()), "class_weight")
        _require(
            np.isfinite(weights) & (weights >= 0),
            weights,
            "class_weight",
            "weights are finite and 0 or more",
        )
        per_class = np.ones(n_classes)
        per_class[[int(label) for label in class_weight]] = weights
    elif isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(
                f'class_weight is {class_weight!r}; expected "balanced" or a mapping of class to weight'
            )
        counts = np.bincount(labels, minlength=n_classes)
        # a class without samples is never looked up
        per_class = len(labels) / (n_classes * np.maximum(counts, 1))
    else:
        raise TypeError(
            f'class_weight is a {type(class_weight).__name__}; expected "balanced" or a mapping of class to weight'
        )
    return per_class[labels]


def _numbers_from_objects(array, name):
    """Numbers out of an object array: whole ones stay integers, so that labels in an object column
    remain labels.
    """
    for index, cell in np.ndenumerate(array):
        if isinstance(cell, str | bytes):
            advice = "encode text as numbers first (class names: labels = np.unique(names, return_inverse=True)[1])"
            raise TypeError(f"{name} is {cell!r}{_at(index)}; {advice}")
        try:
            float(cell)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(f"{name} is {cell!r}{_at(index)}; expected a number") from None
    numbers = np.array(array.tolist()).reshape(array.shape)
    return numbers.astype(np.float64) if numbers.dtype == object else numbers


def _convert(source, dtype, name, finite=True):
    """``source`` as a C-contiguous, aligned array of ``dtype`` whose every element is finite, if
    that is asked for.
    """
    array, flags = source, source.flags
    if source.dtype != dtype or not (flags.c_contiguous and flags.aligned):
        with np.errstate(over="ignore"):  # an overflow is named below
            array = np.require(source, dtype, ("C", "A"))
    if finite and source.dtype.kind == "f":
        _check_finite(array, source, name)
    return array


def _check_finite(array, source, name):
    flat, step = array.reshape(-1), _BLOCK_BYTES // array.itemsize
    for start in range(0, flat.size, step):
        finite = np.isfinite(flat[start : start + step])
        if not finite.all():
            index = np.unravel_index(start + int(finite.argmin()), array.shape)
            problem = (
                f"too large for {array.dtype}"
                if np.isfinite(source[index])
                else "every number must be finite"
            )
            raise ValueError(f"{name} is {source[index]}{_at(index)}; {problem}")


def _as_labels(source, n_classes):
    labels = source.reshape(-1)
    valid = (labels >= 0) & (labels < n_classes) & (labels == np.floor(labels))  # false of NaN
    _require(valid, labels, "y", f"class labels are whole numbers from 0 to {n_classes - 1}")
    return np.require(labels, np.int64, ("C", "A"))


def one_hot(labels: np.ndarray, n_classes: int, dtype: DTypeLike) -> np.ndarray:
    """Labels (n,) as rows (n, n_classes) that are 1 at the label and 0 elsewhere."""
    values = np.zeros((len(labels), n_classes), dtype)
    values[np.arange(len(labels)), labels] = 1
    return values


def _as_values(source, n_outputs, dtype):
    if source.ndim == 1 and n_outputs > 1:
        accepted = f"shape ({len(source)}, {n_outputs}), one column per output, or integer class labels where the loss takes them"
        raise ValueError(f"y is 1-D of dtype {source.dtype}; expected {accepted}")
    columns = source[:, None] if source.ndim == 1 else source
    if columns.shape[1] != n_outputs:
        raise ValueError(
            f"y has {columns.shape[1]} columns, but the network has {n_outputs} outputs"
        )
    return _convert(columns, dtype, "y")


def _as_probabilities(source, n_outputs, dtype):
    values = _as_values(source, n_outputs, dtype)
    _require(values >= 0, values, "y", "probabilities are 0 or more")
    sums = values.sum(axis=1, dtype=np.float64)
    _require(
        np.abs(sums - 1) <= _SUM_TOLERANCE,
        sums,
        "the sum of y",
        "the probabilities of a sample sum to 1",
    )
    return values


def _require(valid, array, name, rule):
    """ValueError naming the first element of ``array`` whose ``valid`` is false."""
    if not valid.all():
        index = np.unravel_index(int(valid.argmin()), valid.shape)
        raise ValueError(f"{name} is {array[index]}{_at(index)}; {rule}")


def _at(index):
    return "".join(
        f"{join} {axis} {i}"
        for join, axis, i in zip((" at", ","), ("row", "column"), index, strict=False)
    )
