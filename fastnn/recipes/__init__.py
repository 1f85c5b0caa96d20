"""Recipes: how networks for tables are built and trained, by name.

Each file has a source and its recipes. To add one: a `Recipe` in a file, and a line in `RECIPES`.
"""

import importlib

from fastnn._utils import checks
from fastnn.recipes.plan import Recipe

RECIPES = {  # name: module and name of the `Recipe` in it
    "auto": ("auto", "RECIPE"),
    "realmlp": ("realmlp", "TD"),
    "realmlp-s": ("realmlp", "TD_S"),
    "tabm": ("tabm", "TABM"),
    "tabm-mini": ("tabm", "MINI"),
    "plain": ("plain", "RECIPE"),
}


def recipe(name: str) -> Recipe:
    """The recipe of a name."""
    module, own_name = RECIPES[checks.one_of("recipe", name, RECIPES)]
    return getattr(importlib.import_module(f"fastnn.recipes.{module}"), own_name)
