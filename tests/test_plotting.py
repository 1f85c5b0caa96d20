"""Pictures: what is drawn where, into whose axes, without a display, and written whole."""

import io
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import fastnn as fnn

pytest.importorskip("matplotlib", reason="Matplotlib is not installed: pip install 'fastnn[plot]'")
from fastnn import plotting
from fastnn._kernels.philox import normal

HISTORY = {
    "loss": [2.0, 1.0, 0.5],
    "val_loss": [2.1, 1.3, 1.1],
    "accuracy": [0.2, 0.5, 0.9],
    "lr": [0.1, 0.1, 0.01],
}


def flow(layers, steps=6):
    speed = 0.25 ** np.arange(layers)[::-1] * np.ones((steps, 1))
    dead = np.full((steps, layers), np.nan)
    dead[:, 0] = 0.5
    return SimpleNamespace(
        steps=np.arange(steps) * 10,
        layers=tuple(f"layer {n}" for n in range(1, layers + 1)),
        learning_speed=speed,
        dead=dead,
    )


def noise(*shape):
    return normal(0, 0, 0, int(np.prod(shape))).reshape(shape)


def classifier(classes):
    output = 1 if classes == 2 else classes
    return fnn.mlp(
        [2, 8, output],
        loss="binary_cross_entropy" if output == 1 else "softmax_cross_entropy",
        backend="numpy",
    )


def value_network():
    return fnn.mlp([2, 8, 1], loss="mse", backend="numpy")


def bowl(x, y):
    return x**2 + 10 * y**2


PICTURES = {
    "lines": lambda ax: plotting.lines({"a": [1, 2], "b": [3, 1]}, [0, 5], "x", "y", ax=ax),
    "learning_curves": lambda ax: plotting.learning_curves(HISTORY, ax=ax),
    "gradient_flow": lambda ax: plotting.gradient_flow(flow(3), ax=ax),
    "gradient_flow of many layers": lambda ax: plotting.gradient_flow(flow(30), ax=ax),
    "layer_bars": lambda ax: plotting.layer_bars(
        [0.003, 0.017, 0.07, 0.285], ylabel="learning speed", ax=ax
    ),
    "importance_bars": lambda ax: plotting.importance_bars(
        [0.4, 0.1, -0.01], [0.05, 0.02, 0.01], ["a", "$b", "c"], "increase", ax=ax
    ),
    "neuron_bars": lambda ax: plotting.neuron_bars([noise(6), noise(4)], ax=ax),
    "activation_histograms": lambda ax: plotting.activation_histograms(
        [noise(20, 5), np.zeros(9)], ax=ax
    ),
    "loss_surface": lambda ax: plotting.loss_surface(
        bowl, (-2, 2), (-1, 1), {"path": [(1, 1), (0, 0)]}, ax=ax
    ),
    "decision_surface of two classes": lambda ax: plotting.decision_surface(
        classifier(2), noise(20, 2), np.arange(20) % 2, ax=ax
    ),
    "decision_surface of three classes": lambda ax: plotting.decision_surface(
        classifier(3), noise(20, 2), np.arange(20) % 3, ax=ax
    ),
    "decision_surface of values": lambda ax: plotting.decision_surface(
        value_network(), noise(20, 2), noise(20), ax=ax
    ),
}
each = pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)


@each
def test_a_figure_of_its_own_or_the_callers_axes(draw):
    own = draw(None)
    _, (left, right) = plotting.new_axes(1, 2)
    assert draw(left) is left
    assert own is not left
    assert left.has_data()
    assert not right.has_data()


@each
def test_every_picture_is_labelled_and_can_be_drawn(draw):
    ax = draw(None)
    assert ax.get_xlabel()
    ax.figure.savefig(io.BytesIO(), format="png")  # warnings about glyphs or layout are errors here


@each
def test_axes_must_be_axes(draw):
    _, several = plotting.new_axes(1, 2)
    with pytest.raises(TypeError, match="ax must be one Matplotlib Axes, not ndarray"):
        draw(several)


def python(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )


def test_no_display_and_no_pyplot():
    code = (
        "import fastnn, sys; ax = fastnn.plotting.layer_bars([1, 2]); "
        "fastnn.plotting.save(ax.figure, sys.argv[-1] + '.png')"
    )
    done = python(
        f"import os, sys, tempfile; sys.argv.append(tempfile.mkdtemp() + '/a'); {code}; "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_without_matplotlib_the_error_says_what_to_install():
    done = python(
        "import sys; sys.modules['matplotlib'] = None\nfrom fastnn import *\nimport fastnn; "
        "fastnn.plotting"
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: fastnn.plotting needs Matplotlib")
    assert "pip install 'fastnn[plot]'" in done.stderr.splitlines()[-1]


# --- what is drawn --------------------------------------------------------------------------------


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_lines_hold_the_values_and_differ_in_more_than_colour():
    series = {str(n): [n, n + 1, np.nan] for n in range(28)}
    ax = plotting.lines(series, [1, 2, 4], "step", "loss", log=True)
    for line, values in zip(ax.lines, series.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 4])
        np.testing.assert_array_equal(line.get_ydata(), values)
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 28
    assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()
    assert legend(ax) == list(series)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("step", "loss", "log")


def test_learning_curves_begin_at_epoch_one():
    ax = plotting.learning_curves(HISTORY)
    assert legend(ax) == ["loss, training", "loss, validation"]
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), HISTORY["val_loss"])
    ax = plotting.learning_curves(HISTORY, ["accuracy", "lr"])
    assert (legend(ax), ax.get_ylabel()) == (
        ["accuracy, training", "learning rate"],
        "accuracy / learning rate",
    )


def test_the_history_of_a_fit_can_be_drawn():
    history = value_network().fit(noise(20, 2), noise(20), epochs=3)
    assert len(plotting.learning_curves(history).lines[0].get_xdata()) == 3


def test_gradient_flow_draws_layers_over_steps():
    ax = plotting.gradient_flow(flow(3))
    assert legend(ax) == ["layer 1", "layer 2", "layer 3"]
    np.testing.assert_array_equal(ax.lines[2].get_xdata(), flow(3).steps)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), flow(3).learning_speed[:, 0])
    assert ax.get_yscale() == "log"


def test_gradient_flow_leaves_out_layers_without_the_figure():
    ax = plotting.gradient_flow(flow(3), "dead")
    assert [line.get_label() for line in ax.lines] == ["layer 1"]
    assert ax.get_yscale() == "linear"


def test_many_layers_have_a_colour_bar_instead_of_a_legend():
    ax = plotting.gradient_flow(flow(30))
    assert ax.get_legend() is None
    assert len(ax.lines) == 30
    assert [other.get_ylabel() for other in ax.figure.axes] == [
        ax.get_ylabel(),
        "layer, from the input",
    ]


@pytest.mark.parametrize(
    "values",
    [[0.003, 0.017, 0.3], [0.0, 0.1, 0.2], [0.0, 0.0], np.geomspace(1, 1e-30, 60)],
    ids=str,
)
def test_layer_bars_stand_at_their_values_also_where_a_layer_has_none(values):
    ax = plotting.layer_bars(values)
    bottom = ax.get_ylim()[0]
    heights = np.array([bar.get_height() for bar in ax.patches])
    np.testing.assert_allclose(np.where(heights > bottom, heights, 0), values)
    assert ax.get_yscale() == ("log" if max(values) > 0 else "linear")
    if len(values) <= 12:
        assert [text.get_text() for text in ax.texts] == [f"{value:.2g}" for value in values]
        ax.figure.canvas.draw()
        assert all(ax.bbox.contains(*text.get_window_extent().p0) for text in ax.texts)
    assert len(ax.get_xticks()) <= 20


def test_importance_bars_are_as_long_as_the_values_the_first_on_top():
    ax = plotting.importance_bars([0.4, -0.1], [0.05, 0.02], ["$a$ and $b$", "c"], "increase")
    assert [bar.get_width() for bar in ax.patches] == [0.4, -0.1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["$a$ and $b$", "c"]
    assert not any(label.get_parse_math() for label in ax.get_yticklabels())
    low, high = ax.get_ylim()
    assert low > high
    left, right = ax.get_xlim()
    assert left < -0.12 < 0.45 < right
    with pytest.raises(ValueError, match="equally many, not 2, 1 and 2"):
        plotting.importance_bars([0.4, 0.1], [0.05], ["a", "b"])


def test_neuron_bars_are_as_long_as_the_gradient():
    gradients = [[0.1, -0.2], [0.4, 0.0, 0.3]]
    widths = [bar.get_width() for bar in plotting.neuron_bars(gradients).patches]
    np.testing.assert_allclose(np.array(widths) / widths[2] * 0.4, [0.1, 0.2, 0.4, 0.0, 0.3])


def test_activation_histograms_count_per_layer():
    ax = plotting.activation_histograms([[0.0, 0.0, 1.0], [0.5]], ["first", "second"])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["first", "second"]
    filled = ax.patches[0].get_data()
    heights = filled.baseline - filled.values
    np.testing.assert_allclose([heights[0], heights[-1], heights.sum()], [0.85, 0.425, 1.275])


def test_the_surface_shows_every_path_from_start_to_end():
    paths = {
        "one": np.array([(1.0, 1.0), (0.5, 0.2), (0.0, 0.0)]),
        "two": np.array([(1.0, 1.0), (0.0, 1.0)]),
    }
    ax = plotting.loss_surface(bowl, (-2, 2), (-1, 1), paths)
    assert legend(ax) == ["one", "two"]
    drawn = {line.get_label(): line.get_xydata() for line in ax.lines}
    for name, path in paths.items():
        np.testing.assert_array_equal(drawn[name], path)
    assert (ax.get_xlim(), ax.get_ylim()) == ((-2, 2), (-1, 1))


def test_contours_are_where_the_function_says():
    ax = plotting.loss_surface(bowl, (-2, 2), (-1, 1), levels=[1.0, 4.0, 9.0])
    contour = next(c for c in ax.collections if not c.get_facecolor().size)
    for height, path in zip(contour.levels, contour.get_paths(), strict=True):
        np.testing.assert_allclose(bowl(*path.vertices.T), height, rtol=0.02)


def test_the_decision_boundary_is_the_networks():
    # class 1 where x₁ > 0
    net = fnn.Network(
        [fnn.Dense(1, init=[[1.0], [0.0]])], 2, "binary_cross_entropy", backend="numpy"
    )
    ax = plotting.decision_surface(net, [[-1, 0], [1, 1], [1, -1]], [0, 1, 1])
    boundary = next(c for c in ax.collections if not c.get_facecolor().size)
    np.testing.assert_allclose(boundary.get_paths()[0].vertices[:, 0], 0, atol=1e-6)
    assert legend(ax) == ["class 0", "class 1"]


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.png", b"\x89PNG"),
        ("a.svg", b"<?xml"),
        ("a.pdf", b"%PDF"),
        ("a", b"\x89PNG"),
        ("a.PNG", b"\x89PNG"),
    ],
)
def test_the_suffix_names_the_format(tmp_path, name, start):
    plotting.save(plotting.layer_bars([1, 2]).figure, tmp_path / name)
    contents = (tmp_path / name).read_bytes()
    assert contents.startswith(start)
    assert contents.rstrip().endswith(
        {b"\x89PNG": b"IEND\xaeB`\x82", b"<?xml": b"</svg>", b"%PDF": b"%%EOF"}[start]
    )


def test_a_failed_save_leaves_the_old_file(tmp_path):
    figure, ax = plotting.new_axes()
    plotting.save(figure, tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    ax.set_title(r"$\nonsense$")
    with pytest.raises(ValueError, match="nonsense"):
        plotting.save(figure, tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before


def test_an_animation_has_all_its_frames(tmp_path):
    from PIL import Image

    figure, ax = plotting.new_axes()
    (line,) = ax.plot([0, 1], [0, 1])
    plotting.save_animation(
        figure, lambda frame: line.set_ydata([frame, 1]), 5, tmp_path / "a.gif", fps=10
    )
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.format, image.n_frames, image.info["duration"]) == ("GIF", 5, 100)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (r"rows must be an integer of at least 1", lambda: plotting.new_axes(0)),
        (
            r"path ends in \.gnp, .*known: .*png",
            lambda: plotting.save(plotting.new_axes()[0], "a.gnp"),
        ),
        (
            r"unknown key 'val_acuracy'.*known: loss",
            lambda: plotting.learning_curves(HISTORY, ["val_acuracy"]),
        ),
        (r"unknown key 'loss'", lambda: plotting.learning_curves({"lr": [0.1]})),
        (r"unknown what 'speed'.*learning_speed", lambda: plotting.gradient_flow(flow(2), "speed")),
        (
            r"x has 3 values, but series\['a'\] has 2",
            lambda: plotting.lines({"a": [1, 2]}, [1, 2, 3]),
        ),
        (r"series\['a'\] must be .*shape \(1, 2\)", lambda: plotting.lines({"a": [[1, 2]]})),
        (r"labels must be 2 names, one a layer; got 1", lambda: plotting.layer_bars([1, 2], ["a"])),
        (r"values must be .*shape \(0,\)", lambda: plotting.layer_bars([])),
        (r"gradients must hold at least one layer", lambda: plotting.neuron_bars([])),
        (r"activations must hold at least one layer", lambda: plotting.activation_histograms([])),
        (
            r"activations\[1\] must be .*at least one number",
            lambda: plotting.activation_histograms([[1], []]),
        ),
        (
            r"f must give a finite array of shape",
            lambda: plotting.loss_surface(lambda x, y: 1.0, (0, 1), (0, 1)),
        ),
        (
            r"paths\['p'\] must have shape \(n, 2\), not \(2,\)",
            lambda: plotting.loss_surface(bowl, (0, 1), (0, 1), {"p": [1, 2]}),
        ),
        (
            r"net must have 2 inputs, not 3",
            lambda: plotting.decision_surface(fnn.mlp([3, 2]), noise(4, 3), noise(4)),
        ),
        (
            r"X must have shape \(n, 2\) and y \(n,\)",
            lambda: plotting.decision_surface(classifier(2), noise(4, 2), [1, 0]),
        ),
        (
            r"net must have 1 output",
            lambda: plotting.decision_surface(fnn.mlp([2, 2], loss="mse"), noise(4, 2), noise(4)),
        ),
    ],
)
def test_mistakes_are_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_labels_that_are_no_classes_are_refused():
    net = fnn.mlp([2, 3, 2], backend="numpy")
    with pytest.raises(ValueError, match=r"class labels 0 … 1; got .*7"):
        plotting.decision_surface(net, np.eye(2), np.array([7, 8]))


@pytest.mark.parametrize("given", [None, {"loss": [1.0]}])
def test_gradient_flow_says_where_it_is_found(given):
    with pytest.raises(
        TypeError, match=r"history\.gradient_flow of a training with callbacks=\[GradientFlow\(\)\]"
    ):
        plotting.gradient_flow(given)
