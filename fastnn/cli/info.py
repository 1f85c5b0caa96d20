"""The command ``fastnn info``."""

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from fastnn import engines, serialization
from fastnn._kernels.contract import DTYPES
from fastnn._kernels.cython_cpu import levels
from fastnn._kernels.numba_cpu import cache
from fastnn._kernels.numba_cuda.toolchain import available, ptx_cache
from fastnn._kernels.threads import num_threads
from fastnn._utils.files import cache_directory
from fastnn._version import __version__
from fastnn.cli.data import encoder_of, table_model
from fastnn.cli.options import FILE
from fastnn.cli.output import printable
from fastnn.estimators.table_model import TableModel
from fastnn.models import load
from fastnn.network import Network
from fastnn.serialization import SavedModel
from fastnn.tabular.targets import Classes


@click.command()
@click.argument("model", type=FILE, required=False)
def info(model: Path | None) -> None:
    """Show versions and engines, or what is in MODEL."""
    lines = _installation() if model is None else _model(model)
    for name, value in lines.items():
        click.echo(printable(f"{name:<14}{value}".rstrip()))


def _installation() -> dict[str, object]:
    return {
        "fastnn": __version__,
        "python": platform.python_version(),
        **{package: _version(package) for package in ("numpy", "numba", "numba-cuda")},
        **{f"{name} engine": status for name, status in engines.backends().items()},
        "numba kernels": _compiled(cache.ready),
        **_cuda_kernels(),
        "auto": engines.explain(),
        "cython level": f"{levels.best()} of {', '.join(levels.built())}"
        if levels.built()
        else "none",
        "threads": num_threads(),
        "cache": cache_directory(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _compiled(ready: Callable[[str], bool]) -> str:
    return ", ".join(f"{dtype} {'' if ready(dtype) else 'not '}compiled" for dtype in DTYPES)


def _cuda_kernels() -> dict[str, str]:
    capability = available.capability()
    if capability is None:
        return {}
    return {"cuda kernels": _compiled(lambda dtype: ptx_cache.ready(dtype, capability))}


def _model(path: Path) -> dict[str, object]:
    saved = serialization.read(path)
    first = saved if isinstance(saved, SavedModel) else saved.members[0]
    precision = first.description.precision  # a network on the CPU has float32 alone
    members = [saved] if isinstance(saved, SavedModel) else saved.members
    networks = [Network.from_saved(member, "numpy", "float32") for member in members]
    net = networks[0]
    model = net if saved is first else load(path, "numpy")
    encoder = encoder_of(model)
    several = {} if saved is first else {"networks": len(networks)}
    lines = {
        **several,
        "inputs": net.inputs,
        **{f"layer {i}": repr(layer) for i, layer in enumerate(net.layers)},
        "loss": repr(net.loss),
        "parameters": f"{sum(net.n_parameters for net in networks):,}",
        "dtype": net.dtype.name,
        **({} if precision == "float32" else {"precision": f"{precision} on backend cuda"}),
        "epochs": ", ".join(str(net.epochs) for net in networks),
        "optimizer": net.optimizer_kind or "none",
    }
    if encoder is None:
        return lines
    target = encoder.target
    classes = {"classes": ", ".join(target.classes)} if isinstance(target, Classes) else {}
    return {
        **lines,
        "target": encoder.target_name,
        **classes,
        "columns": ", ".join(encoder.columns),
        **_of_table(table_model(model)),
    }


def _of_table(model: TableModel | None) -> dict[str, object]:
    """What a model learnt from rows that were held out."""
    if model is None:
        return {}
    scores = ", ".join(f"{name} {value:.4g}" for name, value in model.scores.items())
    lines = {
        "recipe": model.recipe,
        "held out": scores,
        "temperature": "" if model.temperature == 1 else f"{model.temperature:.4g}",
        "threshold": "" if model.threshold is None else f"{model.threshold:.4g}",
    }
    return {name: line for name, line in lines.items() if line}
