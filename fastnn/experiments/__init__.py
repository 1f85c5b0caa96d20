"""The experiments of the source documents, each run by one call or by ``fastnn experiment NAME``.

An experiment is a module of `gradients` or `training` with ``run(quick, data)``, which measures and
compares with the sources' figures, and ``draw(result)``, which makes the picture. `registry` lists
them, `runner` runs one and writes its files, `result` has the records they hand back.
"""

from types import ModuleType

from fastnn.experiments import registry


def __getattr__(name: str) -> ModuleType:
    """An experiment by its name alone, as in ``from fastnn.experiments import chain``."""
    if name in registry.EXPERIMENTS:
        return registry.experiment(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
