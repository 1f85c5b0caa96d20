"""Parts of an encoding as plain data for a model file, and back.

A file may hold anything: only the classes that the reader names are built, and only of constants of
the types that their fields have.
"""

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin

from fastnn._utils import checks
from fastnn.tabular.table import NAME_KINDS

_TARGET_KINDS = ("integer", *NAME_KINDS)  # of classes


def described(part: Any) -> dict[str, Any]:
    """A dataclass as plain data."""
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    return {"type": type(part).__name__, **{key: _plain(v) for key, v in values.items()}}


def restored(description: Mapping[str, Any], kinds: Mapping[str, Any]) -> Any:
    """The inverse of `described`.

    Parameters
    ----------
    description : mapping
    kinds : mapping
        The classes that may be, by name.

    Raises
    ------
    KeyError, TypeError, ValueError
        What no `described` gives.
    """
    kind = kinds[description["type"]]
    types_of = {field.name: field.type for field in fields(kind)}
    constants = {key: value for key, value in description.items() if key != "type"}
    return kind(**{key: _constant(key, v, types_of[key]) for key, v in constants.items()})


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return described(value)
    return list(value) if isinstance(value, tuple) else value


def _constant(key: str, value: Any, kind: Any) -> Any:
    """A constant of a description, of the type that its field has."""
    if kind is bool:
        return checks.boolean(key, value)
    if kind is float:
        low = 0.0 if key == "scale" else -float("inf")
        return checks.number(key, value, low, low_open=True)
    if kind is str:
        if not isinstance(value, str):
            raise TypeError(f"{key} must be text, not {type(value).__name__}")
        return checks.one_of(key, value, _TARGET_KINDS) if key == "kind" else value
    if isinstance(kind, types.UnionType):
        return restored(value, {one.__name__: one for one in get_args(kind)})
    if get_origin(kind) is not tuple or not isinstance(value, list):
        raise TypeError(f"{key} must be a list")
    return tuple(_constant(key, item, get_args(kind)[0]) for item in value)
