"""Model files: safetensors with the description as JSON metadata, and a checksum over all of it.

A file holds numbers and JSON, so reading it runs no code. It is written beside the target and
renamed into place.
"""

import contextlib
import hashlib
import json
import os
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from fastnn._kernels.contract import DTYPES, Program
from fastnn._kernels.state import State
from fastnn._utils import checks
from fastnn._utils.files import check_writable, write_atomically
from fastnn._utils.plain import plain_data
from fastnn._version import __version__
from fastnn.errors import ModelFileError
from fastnn.nn.description import Description
from fastnn.nn.layers import layer_from_config
from fastnn.nn.losses import Loss
from fastnn.nn.protocol import NetworkProtocol
from fastnn.optim.optimizers import OPTIMIZERS

FORMAT = "fastnn-model-1"
# Its tensors are those of member k under "k/", and those of a companion under its name.
ENSEMBLE_FORMAT = "fastnn-ensemble-1"

_LONGEST_HEADER = 100_000_000  # bytes; safetensors reads no longer one
_HIGHEST_COUNT = 2**63  # of epochs and steps: engines count in 64 bits


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


@dataclass(frozen=True)
class SavedEnsemble:
    """What the file of an `Ensemble` holds, checked."""

    members: list[SavedModel]
    companions: dict[str, SavedModel]
    metadata: dict[str, Any]


# --- writing --------------------------------------------------------------------------------------


def save(net: NetworkProtocol, path: str | os.PathLike[str]) -> None:
    """Write the `Network` ``net`` to ``path``; see `Network.save`."""
    tensors = to_tensors(net)
    _check_parameters(net.program, tensors)
    _write(path, FORMAT, to_plain(net), tensors)


def save_ensemble(
    networks: Sequence[NetworkProtocol],
    companions: Mapping[str, NetworkProtocol],
    metadata: dict[str, Any],
    path: str | os.PathLike[str],
) -> None:
    """Write the networks of an `Ensemble`, its companions and its metadata to ``path``."""
    tensors = {}
    for prefix, net in {**dict(enumerate(networks)), **companions}.items():
        own = to_tensors(net)
        _check_parameters(net.program, own)
        tensors |= {f"{prefix}/{name}": tensor for name, tensor in own.items()}
    plain = {
        "fastnn": __version__,
        "members": [to_plain(net) for net in networks],
        "companions": {name: to_plain(net) for name, net in companions.items()},
        "metadata": plain_data("metadata", metadata),
    }
    _write(path, ENSEMBLE_FORMAT, plain, tensors)


def _write(
    path: str | os.PathLike[str],
    kind: str,
    plain: dict[str, Any],
    tensors: dict[str, np.ndarray],
) -> None:
    from safetensors.numpy import save as to_bytes

    check_writable(path)
    description = json.dumps(plain, sort_keys=True)
    metadata = {
        "format": kind,
        "description": description,
        "sha256": checksum(description, tensors),
    }
    data = to_bytes(tensors, metadata=metadata)
    length = struct.unpack_from("<Q", data)[0]
    if length > _LONGEST_HEADER:
        raise ValueError(
            f"layers and metadata take {length / 1e6:.0f} MB of text in a model file, which ends "
            f"at {_LONGEST_HEADER / 1e6:.0f} MB; use fewer layers or less metadata"
        )
    write_atomically(path, data)


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
        "metadata": plain_data("metadata", net.metadata),
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
        digest.update(np.ascontiguousarray(tensors[name]).reshape(-1).data)
    return digest.hexdigest()


def _check_parameters(program: Program, tensors: dict[str, np.ndarray]) -> None:
    """ValueError where a parameter is not finite, as none is that `fit` leaves behind."""
    for array in program.parameters:
        if not np.isfinite(tensors[array.name]).all():
            raise ValueError(
                f"parameter {array.name} holds NaN or infinity, with which no network can be "
                "loaded; set it to finite numbers before you save"
            )


# --- reading --------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str]) -> SavedModel | SavedEnsemble:
    """Read a model file and check all of it; see `fastnn.load`.

    Raises
    ------
    ModelFileError
        A damaged, truncated or foreign file.
    FileNotFoundError
        No such file.
    """
    with open(path, "rb") as file:
        kind, description, tensors = _parse(file, path)
    with _naming(path):
        read_as = _checked if kind == FORMAT else _checked_ensemble
        return read_as(json.loads(description), tensors)


def _parse(file: IO[bytes], path: str | os.PathLike[str]) -> tuple[str, str, dict[str, np.ndarray]]:
    """Format, description and tensors of a file, whose format and checksum are right."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    try:
        start, header = _read_header(file)
        metadata = header["__metadata__"]
        found, description, digest = (metadata[key] for key in ("format", "description", "sha256"))
        tensors = from_bytes(start + _read_numbers(file, len(start), header))
        is_whole = digest == checksum(description, tensors)
    except (
        struct.error,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
        SafetensorError,
    ) as error:
        raise ModelFileError(f"{path} is not a fastnn model, or it is damaged: {error}") from error
    if found not in (FORMAT, ENSEMBLE_FORMAT):
        raise ModelFileError(
            f"{path} has the format {found!r}; this version of fastnn reads {FORMAT!r} and "
            f"{ENSEMBLE_FORMAT!r}"
        )
    if not is_whole:
        raise ModelFileError(f"{path} is damaged: its checksum does not match its contents")
    return found, description, tensors


def _read_header(file: IO[bytes]) -> tuple[bytes, dict[str, Any]]:
    """The bytes before the numbers, and what they say.

    What is no model is known by them, however long the file is.
    """
    start = file.read(8)
    length = struct.unpack("<Q", start)[0]
    if length > _LONGEST_HEADER:
        raise ValueError("it does not begin like one")
    start += file.read(length)
    return start, json.loads(start[8:])


def _read_numbers(file: IO[bytes], start: int, header: dict[str, Any]) -> bytes:
    """The bytes from ``start`` on, as many as the header says, before memory is taken for them."""
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    size, status = max(ends, default=0), os.fstat(file.fileno())
    has_length = stat.S_ISREG(status.st_mode)  # a pipe has none
    if has_length and status.st_size - start != size:
        raise ValueError(
            f"it holds {status.st_size - start:,} bytes of numbers, and its header tells of {size}"
        )
    numbers = file.read() if has_length else file.read(size + 1)
    if len(numbers) != size:
        raise ValueError("it holds another number of bytes than its header tells of")
    return numbers


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """While inside, any mistake in a file's contents is a `ModelFileError` that names the file.

    The checksum of a crafted file may be right and its contents wrong.
    """
    try:
        yield
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ModelFileError(
            f"{path} does not describe a network this version of fastnn knows: {error!r}"
        ) from error


def _checked(plain: dict[str, Any], tensors: dict[str, np.ndarray]) -> SavedModel:
    _check_number_of_layers(plain["layers"], tensors)
    loss = dict(plain["loss"])
    description = Description.checked(
        layers=[layer_from_config(config) for config in plain["layers"]],
        inputs=plain["inputs"],
        loss=Loss(loss.pop("name"), **loss),
        dtype=checks.one_of("dtype", plain["dtype"], DTYPES),
        seed=plain["seed"],
        precision=plain.get("precision", "float32"),
    )
    optimizer = plain["optimizer"]
    n_slots = 0 if optimizer is None else OPTIMIZERS[optimizer.lower()].n_slots
    program = description.program
    _check_tensors(program, n_slots, tensors)  # before memory is taken for them
    state = description.blank_state()
    state.slots = program.new_vectors(n_slots)
    epochs, state.step, state.optimizer_step = (
        _count(name, plain[name]) for name in ("epochs", "step", "optimizer_step")
    )
    metadata = plain_data("metadata", plain["metadata"])
    for name, view in _views(program, state):
        view[...] = tensors[name]
    return SavedModel(description, state, optimizer, epochs, metadata)


def _checked_ensemble(plain: dict[str, Any], tensors: dict[str, np.ndarray]) -> SavedEnsemble:
    if not plain["members"]:
        raise ValueError("an ensemble has at least one member")
    of_member: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        number, _, own = name.partition("/")
        of_member.setdefault(number, {})[own] = tensor
    members = [_checked(one, of_member[str(k)]) for k, one in enumerate(plain["members"])]
    companions = {name: _checked(one, of_member[name]) for name, one in plain["companions"].items()}
    return SavedEnsemble(members, companions, plain_data("metadata", plain["metadata"]))


def _check_number_of_layers(layers: Any, tensors: dict[str, np.ndarray]) -> None:
    """ValueError where layers lack their tensors, before time is spent on building them."""
    learning, remaining = 0, list(layers)
    while remaining:
        layer = remaining.pop()
        learning += layer["layer"] in ("Dense", "BatchNorm", "LayerNorm")
        remaining += layer.get("layers", ())
    if learning > len(tensors):
        raise ValueError(f"{learning:,} layers learn, but there are {len(tensors):,} tensors")


def _check_tensors(program: Program, n_slots: int, tensors: dict[str, np.ndarray]) -> None:
    """Raise unless the tensors are those of the program, and its parameters are finite.

    An overflow may leave infinite running statistics or optimiser's state; they come back as they
    were.
    """
    expected = {array.name: array.shape for array in (*program.parameters, *program.buffers)}
    for k in range(n_slots):
        expected |= {_slot_name(k, array.name): array.shape for array in program.parameters}
    for name, shape in expected.items():
        tensor = tensors[name]
        if (tensor.shape, tensor.dtype) != (shape, program.dtype):
            raise ValueError(
                f"{name} must be {program.dtype} of shape {shape}, "
                f"not {tensor.dtype} of shape {tensor.shape}"
            )
    products = tensors[_PRODUCTS]
    if (products.shape, products.dtype) != ((1,), np.float64):
        raise ValueError(f"{_PRODUCTS} must be one number, not {products.shape}")
    _check_parameters(program, tensors)


def _count(name: str, value: Any) -> int:
    """A number of epochs or steps."""
    if checks.integer(name, value, least=0) >= _HIGHEST_COUNT:
        raise ValueError(f"{name} must be below 2**63")
    return value


# --- both -----------------------------------------------------------------------------------------


_PRODUCTS = "optimizer.products"  # the file's name for NAdam's running product of μ


def _slot_name(slot: int, parameter: str) -> str:
    return f"optimizer.{slot}.{parameter}"


def _views(program: Program, state: State) -> list[tuple[str, np.ndarray]]:
    """Name in the file → view, of everything that training changes."""
    views = [(a.name, a.view(state.theta)) for a in program.parameters]
    views += [(a.name, a.view(state.buffers)) for a in program.buffers]
    views += [
        (_slot_name(k, a.name), a.view(slot))
        for k, slot in enumerate(state.slots)
        for a in program.parameters
    ]
    return [*views, (_PRODUCTS, state.mu_product)]
