"""Run an experiment and write ``NAME.json``, ``NAME.png`` and, where it moves, ``NAME.gif``."""

import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnn._utils.files import check_writable, write_atomically
from fastnn._version import __version__
from fastnn.experiments.data import Data, mnist
from fastnn.experiments.registry import experiment, title
from fastnn.experiments.result import Check, ExperimentResult
from fastnn.training.interrupts import ctrl_c_raises

_DIGITS = 7  # of the figures in a JSON file: as many as float32 has


@dataclass(frozen=True)
class Report:
    """An experiment that was run.

    Attributes
    ----------
    name, title : str
    quick : bool
    seconds : float
        Of the measuring, without the drawing.
    result : ExperimentResult
    """

    name: str
    title: str
    quick: bool
    seconds: float
    result: ExperimentResult

    @property
    def checks(self) -> list[Check]:
        """Expected figures beside measured ones."""
        return self.result.checks

    @property
    def agreeing(self) -> int:
        """How many figures agree."""
        return sum(check.agrees for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """What ``NAME.json`` holds; numbers that are not finite become None."""
        plain = {
            "name": self.name,
            "title": self.title,
            "quick": self.quick,
            "fastnn": __version__,
            "seconds": self.seconds,
            "expected": {check.name: check.expected for check in self.checks},
            "measured": {check.name: check.measured for check in self.checks},
            "agrees": {check.name: check.agrees for check in self.checks},
            "checks": [{**asdict(check), "agrees": check.agrees} for check in self.checks],
            "series": self.result.series,
        }
        return _plain(plain)


def run(
    name: str, quick: bool = False, out: str | os.PathLike[str] = ".", data: Data | None = None
) -> Report:
    """Run an experiment and write its figures and its picture.

    Parameters
    ----------
    name : str
        One of `fastnn.experiments.registry.EXPERIMENTS`.
    quick : bool
        Under 20 seconds on two cores, on the sample of MNIST inside the package. Bounds are then
        wider, or others, where figures of the source need the full run.
    out : path
        The folder for ``NAME.json``, ``NAME.png`` and ``NAME.gif``; made where it does not exist.
    data : Data, optional
        The images to take; by default `fastnn.experiments.data.mnist`.

    Raises
    ------
    ValueError
        No such experiment; the message names the nearest.
    ImportError
        No matplotlib to draw with.
    OSError
        ``out`` cannot be written to. All of these before anything is measured.
    """
    module = experiment(name)
    check_destination(out, [name])
    from fastnn import plotting

    folder = Path(out)
    started = time.perf_counter()
    with ctrl_c_raises():  # a training cut short would be taken for a result
        result = module.run(quick, mnist(quick) if data is None else data)
    report = Report(name, title(name), quick, time.perf_counter() - started, result)
    figure = module.draw(result)
    write_atomically(
        folder / f"{name}.json",
        (json.dumps(report.to_dict(), ensure_ascii=False, allow_nan=False) + "\n").encode(),
    )
    plotting.save(figure, folder / f"{name}.png")
    if hasattr(module, "animate"):
        module.animate(result, folder / f"{name}.gif")
    return report


def check_destination(out: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Make the folder ``out`` and raise what would stop `run` from drawing and writing there."""
    import fastnn.plotting  # noqa: F401  says what to install where Matplotlib is missing

    Path(out).mkdir(parents=True, exist_ok=True)
    for name in names:
        for suffix in (".json", ".png", ".gif"):
            check_writable(Path(out) / f"{name}{suffix}")


def _plain(value: Any) -> Any:
    """``value`` as `json` takes it, numbers rounded."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value
