"""All recipes by name."""

import functools

from fit_recipes import fit_recipes, flow_recipes, shape_recipes
from layer_recipes import activation_recipes, init_recipes, layer_recipes
from optimization_recipes import loss_recipes, optimizer_recipes, schedule_recipes
from recipe import Recipe


@functools.cache
def all_recipes() -> dict[str, Recipe]:
    """All recipes by name, as "loss: mae".

    Files that other versions of this tool wrote hold these names: do not rename a recipe.
    """
    groups = {
        "activation": activation_recipes(),
        "init": init_recipes(),
        "layers": layer_recipes(),
        "loss": loss_recipes(),
        "optimizer": optimizer_recipes(),
        "schedule": schedule_recipes(),
        "fit": fit_recipes(),
        "flow": flow_recipes(),
        "shape": shape_recipes(),
    }
    return {
        f"{group}: {name}": recipe
        for group, recipes in groups.items()
        for name, recipe in recipes.items()
    }
