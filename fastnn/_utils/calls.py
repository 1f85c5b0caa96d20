"""How activations, initialisers and losses show themselves."""

from collections.abc import Mapping
from typing import Any


def named_call(kind: str, name: str, constants: Mapping[str, Any]) -> str:
    """The call that makes one, such as ``Activation('elu', alpha=0.5)``."""
    arguments = [repr(name), *(f"{key}={_shown(value)}" for key, value in constants.items())]
    return f"{kind}({', '.join(arguments)})"


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, bool | tuple) else f"{value:g}"
