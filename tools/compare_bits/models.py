"""Model files: one version saves them, another loads them and trains on to the same bits."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cases import DTYPES, on_threads
from comparison import differing, first_of
from digests import digest, history_digests, output_digests, state_digests, to_hex
from recipe import Recipe, random_data
from recipes import all_recipes
from runs import about, compile_numba, run_fastnn, write_json

import fastnn as fnn

# Recipes whose networks are saved: all layers, losses, optimisers and initialisers among them.
SAVED = (
    "layers: everything",
    "layers: residuals inside residuals",
    "layers: max norm and l2",
    "layers: mlp",
    "init: arrays and constants",
    "activation: leaky_relu of 0.3, dropout",
    "loss: softmax smoothed, probabilities",
    "loss: binary smoothed, bits",
    "loss: quadratic, values",
    "loss: mae",
    "loss: huber of 0.3",
    "loss: poisson",
    "optimizer: SGD, all",
    "optimizer: nesterov, all layers",
    "optimizer: AdaGrad, constants",
    "optimizer: AdaDelta, constants",
    "optimizer: RMSProp, constants",
    "optimizer: AdamW, all layers",
    "optimizer: NAdam, all layers",
    "optimizer: LBFGS, all layers",
    "flow: Adam, all layers",
)
# Target columns of models that the command line trains, with options of the training.
TABLES = {"species": (), "width": ("--dtype", "float64", "--batch-norm", "--optimizer", "nadam")}
EXPECTED = "expected.json"
SCORES = ("loss", "accuracy", "r2")
ONE_THREAD = ("--threads", "1")


def save(folder: Path, engines: Sequence[str]) -> int:
    """Train networks and write their model files, with the digests to expect of them.

    Returns
    -------
    int
        The exit status: 1 if a network or its history differs from what its file holds.
    """
    compile_numba(engines)
    folder.mkdir(parents=True, exist_ok=True)
    fnn.set_num_threads(1)
    results, faults = {}, 0
    for number, name in enumerate(SAVED):
        for dtype in DTYPES:
            stem, engine = f"{number:02d}-{dtype}", engines[number % len(engines)]
            kept = save_network(folder / stem, name, engine, dtype)
            result = network_file(folder, stem, engines, all_recipes()[name])
            loaded = {"network": result[engine], "history": result["history"]}
            if names := differing(kept, loaded):
                print(f"{stem}: the file changed {first_of(names)}")
                faults += 1
            results[stem] = {"recipe": name, "results": result}
    write_table(folder / "flowers.csv")
    for target, options in TABLES.items():
        model = ("--out", folder / f"table-{target}.fastnn", "--backend", "numpy", *ONE_THREAD)
        training = ("--target", target, "--layers", "16,8", "--epochs", "4", *options)
        run_fastnn("train", folder / "flowers.csv", *training, *model)
        results[f"table {target}"] = {"results": table_model(folder, target, engines)}
    net = fnn.nielsen.network2.Network([30, 20, 4], seed=3, backend="numpy")
    net.save(folder / "network2.json")
    results["network2"] = {"results": nielsen_file(folder)}
    write_json(folder / EXPECTED, {"about": about(), "cases": results})
    print(f"{len(results)} models saved in {folder}, {faults} faults")
    return 1 if faults else 0


def load(folder: Path, engines: Sequence[str]) -> int:
    """Load the model files that ``save`` wrote and compare the digests.

    Returns
    -------
    int
        The exit status: 1 if a model differs or cannot be loaded, or if there is none.
    """
    compile_numba(engines)
    expected = json.loads((folder / EXPECTED).read_bytes())["cases"]
    faults = {}
    for stem, case in expected.items():
        try:
            if stem.startswith("table "):
                result = table_model(folder, stem.removeprefix("table "), engines)
            elif stem == "network2":
                result = nielsen_file(folder)
            else:
                result = network_file(folder, stem, engines, all_recipes()[case["recipe"]])
            names = differing(case["results"], json.loads(json.dumps(result)))
            if names:
                faults[stem] = f"differs in {first_of(names)}"
        except Exception as error:
            faults[stem] = f"{type(error).__name__}: {error}"
    print(f"{len(expected) - len(faults)} of {len(expected)} models are equal")
    for stem, fault in faults.items():
        print(f"  {stem} ({expected[stem].get('recipe', 'file')}): {fault}")
    return 1 if faults or not expected else 0


def save_network(path: Path, name: str, engine: str, dtype: str) -> dict[str, Any]:
    """Train by a recipe, save network and history, and return their digests without the files."""
    recipe = all_recipes()[name]
    net = recipe.network(engine, dtype)
    number = SAVED.index(name)
    net.metadata = {"recipe": name, "numbers": [number, 0.1], "text": "값"}
    history = recipe.fit(net, random_data(recipe, net), recipe.optimizer, recipe.epochs)
    net.save(path.with_name(f"{path.name}.fastnn"))
    history.save(path.with_name(f"{path.name}.history.json"))
    return {"network": resumed_training(net, recipe), "history": history_digests(history)}


def network_file(folder: Path, stem: str, engines: Sequence[str], recipe: Recipe) -> dict[str, Any]:
    """The digests of a model file on each engine, and those of the history beside it."""
    result = {}
    for engine in engines:
        net = fnn.load(folder / f"{stem}.fastnn", backend=engine)
        result[engine] = on_threads(1, resumed_training, net, recipe)
    history = fnn.History.load(folder / f"{stem}.history.json")
    return {**result, "history": history_digests(history)}


def resumed_training(net: Any, recipe: Recipe) -> dict[str, Any]:
    """The digests of a network before and after one more epoch."""
    data = random_data(recipe, net)
    before = {**state_digests(net), **output_digests(net, data), "metadata": net.metadata}
    history = recipe.fit(net, data, recipe.optimizer, 1)
    predictions = {"predict": digest(net.predict(data.X_new))}
    after = {**history_digests(history), **state_digests(net), **predictions}
    return {"before": before, "after": after}


def write_table(path: Path) -> None:
    """Write a CSV file with numbers, text, empty cells, and a class that depends on the others."""
    rng, lines = np.random.default_rng(8), ["length,width,colour,species"]
    for row in range(120):
        length, width = rng.normal(5, 1), rng.normal(3, 0.5)
        colour = ("red", "white", "blue")[row % 3]
        species = ("iris", "rose")[int(length + width + (row % 3) > 9)]
        cell = "" if row % 17 == 5 else f"{length:.3f}"
        lines.append(f"{cell},{width:.3f},{colour},{species}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def table_model(folder: Path, target: str, engines: Sequence[str]) -> dict[str, Any]:
    """What the command line predicts with a model of the table, and its scores."""
    model, table, result = folder / f"table-{target}.fastnn", folder / "flowers.csv", {}
    with tempfile.TemporaryDirectory() as temporary:
        predictions, metrics = Path(temporary) / "predictions.csv", Path(temporary) / "metrics.json"
        for engine in engines:
            options = ("--backend", engine, *ONE_THREAD)
            run_fastnn("predict", model, table, "-o", predictions, *options)
            run_fastnn("evaluate", model, table, "--metrics", metrics, *options)
            figures = json.loads(metrics.read_bytes())
            result[engine] = {
                "predictions": hashlib.sha256(predictions.read_bytes()).hexdigest(),
                "scores": to_hex({name: figures[name] for name in figures if name in SCORES}),
            }
    return result


def nielsen_file(folder: Path) -> dict[str, Any]:
    """The digests of a network that `fastnn.nielsen.network2` saved."""
    net = fnn.nielsen.network2.load(folder / "network2.json")
    x = np.random.default_rng(3).normal(size=(30, 5))
    return {"weights": [digest(w) for w in net.weights], "output": digest(net.feedforward(x))}
