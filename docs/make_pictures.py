"""Draw the pictures of the guide and of the README, from the networks that the guide trains.

    python docs/make_pictures.py [NAME …] [--out FOLDER]

Without names it draws all of them, into ``docs/pictures``.
"""

import argparse
import functools
import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import fastnn as fnn
from fastnn import plotting
from fastnn._utils.files import write_atomically

SIZES = [784, 64, 64, 64, 64, 64, 64, 10]
SLOW = {"activation": "sigmoid", "init": "nielsen"}
CURES = {
    "none": (SLOW, fnn.SGD(0.05)),
    "ReLU, He": ({"activation": "relu"}, fnn.SGD(0.05)),
    "BatchNorm": ({**SLOW, "batch_norm": True}, fnn.SGD(0.05)),
    "residual blocks": ({**SLOW, "residual": True}, fnn.SGD(0.05)),
    "Adam": (SLOW, fnn.Adam(1e-3)),
}


@functools.cache
def digits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Training and validation data."""
    return fnn.datasets.mnist_sample()


def train(net: fnn.Network, optimizer: fnn.SGD, **options) -> fnn.History:
    """As section 1 of the guide does."""
    (X, y), validation = digits()
    return net.fit(
        X,
        y,
        epochs=20,
        batch_size=32,
        optimizer=optimizer,
        validation=validation,
        progress=False,
        **options,
    )


# --- pictures -------------------------------------------------------------------------------------


def learning_speed() -> Figure:
    """Section 2: each layer's learning speed."""
    (X, y), _ = digits()
    speed = fnn.mlp(SIZES, **SLOW).learning_speed(X[:1000], y[:1000])
    ax = plotting.layer_bars(speed, ylabel="learning speed ‖∂C/∂b‖₂")
    times = round(speed[-1] / speed[0], -2)
    ax.set(
        xlabel="hidden layer",
        title="Six sigmoid layers before training:\n"
        f"the first learns {times:,.0f} times slower than the last",
    )
    return ax.figure


def neuron_bars() -> Figure:
    """Section 2: the picture of the book's chapter 5, six neurons of each layer of 784-30-30-10."""
    (X, y), _ = digits()
    net = fnn.mlp([784, 30, 30, 10], output="sigmoid", loss="binary_cross_entropy", **SLOW)
    _, gradients = net.gradients(X[:1000], y[:1000])
    ax = plotting.neuron_bars([gradients[f"{layer}.bias"][:6] for layer in (0, 1)])
    ax.set_title("Six neurons of each hidden layer of 784-30-30-10")
    return ax.figure


def saturation() -> Figure:
    """Section 2: activations with small and with large weights."""
    (X, _), _ = digits()
    figure, axes = plotting.new_axes(1, 2, size=(9.0, 4.2))
    for ax, init, title in zip(
        axes,
        ("nielsen", "standard_normal"),
        ("weights from N(0, 1/n)", "weights from N(0, 1)"),
        strict=True,
    ):
        net = fnn.mlp(SIZES, activation="sigmoid", init=init)
        plotting.activation_histograms(net.activations(X[:1000]), ax=ax)
        ax.set(ylabel="hidden layer", title=title)
    return figure


def gradient_flow() -> Figure:
    """Section 5: learning speeds while training, with SGD and with Adam."""
    figure, axes = plotting.new_axes(1, 2, size=(10.0, 4.2))
    for ax, name in zip(axes, ("none", "Adam"), strict=True):
        network, optimizer = CURES[name]
        flow = fnn.GradientFlow(every=50)
        history = train(fnn.mlp(SIZES, **network), optimizer, callbacks=[flow])
        plotting.gradient_flow(history.gradient_flow, ax=ax)
        ax.set(ylim=(3e-6, 1), title=f"Six sigmoid layers, {type(optimizer).__name__}")
    axes[0].get_legend().remove()
    axes[1].legend(title="layer", ncols=2, loc="lower right")
    return figure


def cures() -> Figure:
    """Section 4: validation accuracy with each cure."""
    accuracy = {
        name: train(fnn.mlp(SIZES, **network), optimizer)["val_accuracy"]
        for name, (network, optimizer) in CURES.items()
    }
    ax = plotting.lines(accuracy, np.arange(1, 21), "epoch", "validation accuracy")
    ax.set(
        ylim=(0, 1), xticks=[1, 5, 10, 15, 20], title="Six sigmoid layers, and one thing changed"
    )
    return ax.figure


def cure_heatmap() -> Figure:
    """Section 7: which activation and which normalisation suit, whatever else was changed."""
    (X, y), validation = digits()
    table = fnn.cures(
        fnn.mlp(SIZES, **SLOW),
        X,
        y,
        seconds=30,
        validation=validation,
        optimizer=fnn.SGD(0.05),
        progress=False,
    )
    ax = plotting.cure_heatmap(table)
    ax.set_title(f"The best of {len(table)} variants tried in 30 seconds")
    return ax.figure


def overfitting() -> Figure:
    """Section 8: training and validation loss on 500 images."""
    (X, y), validation = digits()
    net = fnn.mlp([784, 128, 128, 10])
    history = net.fit(X[:500], y[:500], epochs=40, validation=validation, progress=False)
    ax = plotting.learning_curves(history)
    best = int(np.argmin(history["val_loss"]))
    ax.axvline(best + 1, color="0.4", linewidth=1.0, linestyle=":")
    ax.annotate(
        "early stopping goes\nback to this epoch",
        (best + 1, 1.2),
        (best + 4, 1.2),
        va="center",
        arrowprops={"arrowstyle": "->"},
    )
    ax.set_title("500 images, learnt by heart")
    return ax.figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of 256 colours, a third of the size of one with all."""
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi=110)
    Image.open(full).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        small, "png", optimize=True
    )
    write_atomically(path, small.getvalue())


PICTURES = {
    picture.__name__: picture
    for picture in (
        learning_speed,
        neuron_bars,
        saturation,
        gradient_flow,
        cures,
        cure_heatmap,
        overfitting,
    )
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "pictures")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(PICTURES))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(PICTURES)}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names or PICTURES:
        save(PICTURES[name](), options.out / f"{name}.png")


if __name__ == "__main__":
    main()
