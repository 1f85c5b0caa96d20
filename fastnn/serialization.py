"""Model files: safetensors with the description as JSON metadata, and a checksum over all of it.

A file holds numbers and JSON, so reading it runs no code. It is written beside the target and
renamed into place.
"""

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn._kernels.contract import Program
from fastnn._kernels.state import State
from fastnn._utils import checks
from fastnn._utils.files import check_writable, write_atomically
from fastnn._version import __version__
from fastnn.errors import ModelFileError
from fastnn.nn.description import Description
from fastnn.nn.layers import layer_from_config
from fastnn.nn.losses import Loss
from fastnn.nn.protocol import NetworkProtocol
from fastnn.optim.optimizers import OPTIMIZERS

FORMAT = "fastnn-model-1"


@dataclass(frozen=True)
class SavedModel:
    """What a model file holds, checked: all that a network needs.

    Attributes
    ----------
    description : Description
    state : State
    optimizer : str or None
        The kind of optimiser whose state there is: the class's name.
    epochs : int
    metadata : dict
    """

    description: Description
    state: State
    optimizer: str | None
    epochs: int
    metadata: dict[str, Any]


# --- writing --------------------------------------------------------------------------------------


def save(net: NetworkProtocol, path: str | os.PathLike[str]) -> None:
    """Write the `Network` ``net`` to ``path``; see `Network.save`."""
    from safetensors.numpy import save as to_bytes

    check_writable(path)
    _check_metadata(net.metadata)
    tensors = to_tensors(net)
    description = json.dumps(to_plain(net), sort_keys=True)
    metadata = {
        "format": FORMAT,
        "description": description,
        "sha256": checksum(description, tensors),
    }
    write_atomically(path, to_bytes(tensors, metadata=metadata))


def to_plain(net: NetworkProtocol) -> dict[str, Any]:
    """What a model file says of a network in JSON."""
    return {
        "fastnn": __version__,
        "layers": [layer.to_config() for layer in net.layers],
        "inputs": net.inputs,
        "loss": net.loss.to_config(),
        "dtype": net.dtype.name,
        "seed": net.seed,
        "precision": net.precision,
        "epochs": net.epochs,
        "step": net.state.step,
        "optimizer": net.optimizer_kind,
        "optimizer_step": net.state.optimizer_step,
        "metadata": net.metadata,
    }


def to_tensors(net: NetworkProtocol) -> dict[str, np.ndarray]:
    """The arrays of a model file by name."""
    views = _views(net.program, net.state)
    return {name: np.ascontiguousarray(view) for name, view in views}


def checksum(description: str, tensors: dict[str, np.ndarray]) -> str:
    """SHA-256 of a description and the names, types, shapes and numbers of its tensors."""
    digest = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        digest.update(f"\0{name}\0{tensors[name].dtype.str}\0{tensors[name].shape}\0".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


# --- reading --------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str]) -> SavedModel:
    """Read a model file and check all of it; see `fastnn.load`.

    Raises
    ------
    ModelFileError
        A damaged, truncated or foreign file.
    FileNotFoundError
        No such file.
    """
    with open(path, "rb") as file:
        description, tensors = _parse(file.read(), path)
    with _naming(path):
        return _checked(json.loads(description), tensors)


def _parse(data: bytes, path: str | os.PathLike[str]) -> tuple[str, dict[str, np.ndarray]]:
    """Description and tensors of a file's bytes, whose format and checksum are right."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    try:
        length = struct.unpack_from("<Q", data)[0]
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        found, description = metadata["format"], metadata["description"]
        tensors = from_bytes(data)
        is_whole = metadata["sha256"] == checksum(description, tensors)
    except (
        struct.error,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        SafetensorError,
    ) as error:
        raise ModelFileError(f"{path} is not a fastnn model, or it is damaged: {error}") from error
    if found != FORMAT:
        raise ModelFileError(
            f"{path} has the format {found!r}; this version of fastnn reads {FORMAT!r}"
        )
    if not is_whole:
        raise ModelFileError(f"{path} is damaged: its checksum does not match its contents")
    return description, tensors


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """While inside, any mistake in a file's contents is a `ModelFileError` that names the file.

    The checksum of a crafted file may be right and its contents wrong.
    """
    try:
        yield
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        MemoryError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ModelFileError(
            f"{path} does not describe a network this version of fastnn knows: {error!r}"
        ) from error


def _checked(plain: dict[str, Any], tensors: dict[str, np.ndarray]) -> SavedModel:
    loss = dict(plain["loss"])
    description = Description.checked(
        layers=[layer_from_config(config) for config in plain["layers"]],
        inputs=plain["inputs"],
        loss=Loss(loss.pop("name"), **loss),
        dtype=plain["dtype"],
        seed=plain["seed"],
        precision=plain.get("precision", "float32"),
    )
    state, optimizer = description.blank_state(), plain["optimizer"]
    if optimizer is not None:
        n_slots = OPTIMIZERS[optimizer.lower()].n_slots
        state.slots = description.program.new_vectors(n_slots)
    epochs, state.step, state.optimizer_step = (
        checks.integer(name, plain[name], least=0) for name in ("epochs", "step", "optimizer_step")
    )
    _check_metadata(plain["metadata"])
    for name, view in _views(description.program, state):
        tensor = tensors[name]
        fits = (tensor.shape, tensor.dtype) == (view.shape, view.dtype)
        if not fits or not np.isfinite(tensor).all():
            raise ValueError(
                f"{name} must be finite {view.dtype} of shape {view.shape}, "
                f"not {tensor.dtype} of shape {tensor.shape}"
            )
        view[...] = tensor
    return SavedModel(description, state, optimizer, epochs, plain["metadata"])


# --- both -----------------------------------------------------------------------------------------


def _check_metadata(metadata: Any) -> None:
    """It must come back from JSON as it is."""
    try:
        text = json.dumps(metadata)
        text.encode()
        is_faithful = (
            isinstance(metadata, dict) and json.loads(text) == metadata and "\\ud8" not in text
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"metadata cannot be saved: {error}; "
            "it must be a dict of plain data (text, numbers, lists, dicts)"
        ) from error
    if not is_faithful:
        raise TypeError(
            "metadata must be a dict of plain data (text, numbers, lists, dicts with text as keys)"
        )


def _views(program: Program, state: State) -> list[tuple[str, np.ndarray]]:
    """Name in the file → view, of everything that training changes."""
    views = [(a.name, a.view(state.theta)) for a in program.parameters]
    views += [(a.name, a.view(state.buffers)) for a in program.buffers]
    views += [
        (f"optimizer.{k}.{a.name}", a.view(slot))
        for k, slot in enumerate(state.slots)
        for a in program.parameters
    ]
    # The file's name for NAdam's running product of μ.
    return [*views, ("optimizer.products", state.mu_product)]
