"""Parameters of estimators as scikit-learn handles them: `get_params`, `set_params`, `repr`."""

import inspect
from typing import Any, Self

from fastnn._utils import checks


class Parameterised:
    """Base of estimators: the arguments of ``__init__`` are kept unchanged under their names.

    With this, `sklearn.base.clone`, pipelines and searches take them.
    """

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return [name for name in inspect.signature(cls).parameters]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments by name; ``deep`` is there for scikit-learn."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params: Any) -> Self:
        """Change arguments by name; returns the estimator itself."""
        for name, value in params.items():
            checks.one_of("parameter", name, self._parameter_names())
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = {name: p.default for name, p in inspect.signature(type(self)).parameters.items()}
        given = {k: v for k, v in self.get_params().items() if repr(v) != repr(defaults[k])}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in given.items())})"
