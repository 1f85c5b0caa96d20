"""Recipes: how networks for tables are built and trained, by name.

Each file has one and its source. To add one: a file with a ``RECIPE``, and a line in `RECIPES`.
"""

import importlib

from fastnn._utils import checks
from fastnn.recipes.plan import Recipe

RECIPES = {
    "auto": "auto",
    "plain": "plain",
}


def recipe(name: str) -> Recipe:
    """The recipe of a name."""
    module = RECIPES[checks.one_of("recipe", name, RECIPES)]
    return importlib.import_module(f"fastnn.recipes.{module}").RECIPE
