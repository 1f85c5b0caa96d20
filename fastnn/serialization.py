"""One safe file per model: safetensors with the description as JSON metadata, and a checksum over
all of it.

The file holds numbers and JSON, so loading it runs no code. It is written beside the target and
renamed into place.
"""

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn._utils import checks
from fastnn._utils.files import check_writable, write_atomically
from fastnn._version import __version__
from fastnn.errors import ModelFileError
from fastnn.nn.layers import layer_from_config
from fastnn.nn.losses import Loss

FORMAT = "fastnn-model-1"


def save(net: Any, path: str | os.PathLike) -> None:
    """Write ``net`` to ``path``; see `Network.save`."""
    from safetensors.numpy import save as to_bytes

    check_writable(path)
    _check_metadata(net.metadata)
    tensors = _tensors(net)
    description = json.dumps(_describe(net), sort_keys=True)
    metadata = {
        "format": FORMAT,
        "description": description,
        "sha256": _checksum(description, tensors),
    }
    write_atomically(path, to_bytes(tensors, metadata=metadata))


def read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Description and tensors of a model file, proved whole by the checksum; see `fastnn.load`."""
    with open(path, "rb") as file:
        return _parse(file.read(), path)


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """While inside, any mistake of a description or its tensors is a `ModelFileError`: a checksum
    may be right and the contents not.
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


def arguments(description: dict[str, Any]) -> dict[str, Any]:
    """What `Network` was made with, but for the backend."""
    loss = dict(description["loss"])
    return {
        "layers": [layer_from_config(config) for config in description["layers"]],
        "inputs": description["inputs"],
        "loss": Loss(loss.pop("name"), **loss),
        "dtype": description["dtype"],
        "seed": description["seed"],
        "precision": description.get("precision", "float32"),
    }


def restore(net: Any, description: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Give a new network what training had changed."""
    if description["optimizer"] is not None:
        net.use_optimizer(description["optimizer"])
    _check_metadata(description["metadata"])
    net.metadata = description["metadata"]
    net.epochs, net.state.step, net.state.optimizer_step = (
        checks.integer(name, description[name], least=0)
        for name in ("epochs", "step", "optimizer_step")
    )
    for name, view in _views(net):
        tensor = tensors[name]
        if (tensor.shape, tensor.dtype) != (view.shape, view.dtype) or not np.isfinite(
            tensor
        ).all():
            raise ValueError(
                f"{name} must be finite {view.dtype} of shape {view.shape}, not {tensor.dtype} of shape {tensor.shape}"
            )
        view[...] = tensor


def _check_metadata(metadata: Any) -> None:
    """It must come back from JSON as it is."""
    try:
        text = json.dumps(metadata)
        text.encode()
        faithful = (
            isinstance(metadata, dict) and json.loads(text) == metadata and "\\ud8" not in text
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"metadata cannot be saved: {error}; it must be a dict of plain data (text, numbers, lists, dicts)"
        ) from error
    if not faithful:
        raise TypeError(
            "metadata must be a dict of plain data (text, numbers, lists, dicts with text as keys)"
        )


def _describe(net: Any) -> dict[str, Any]:

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


def _views(net: Any) -> list[tuple[str, np.ndarray]]:
    """Name in the file → view, of everything that training changes."""
    program, state = net.program, net.state
    views = [(a.name, a.view(state.theta)) for a in program.parameters]
    views += [(a.name, a.view(state.buffers)) for a in program.buffers]
    views += [
        (f"optimizer.{k}.{a.name}", a.view(slot))
        for k, slot in enumerate(state.slots)
        for a in program.parameters
    ]
    return [*views, ("optimizer.products", state.mu_product)]


def _tensors(net: Any) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(view) for name, view in _views(net)}


def _checksum(description: str, tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        digest.update(f"\0{name}\0{tensors[name].dtype.str}\0{tensors[name].shape}\0".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def _parse(data: bytes, path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    try:
        length = struct.unpack_from("<Q", data)[0]
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        found, description, checksum = (
            metadata["format"],
            metadata["description"],
            metadata["sha256"],
        )
        tensors = from_bytes(data)
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
    if checksum != _checksum(description, tensors):
        raise ModelFileError(f"{path} is damaged: its checksum does not match its contents")
    with naming(path):
        return json.loads(description), tensors
