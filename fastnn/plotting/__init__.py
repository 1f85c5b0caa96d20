"""Pictures of training. They need Matplotlib: ``pip install 'fastnn[plot]'``.

Each function draws into ``ax``, or into a figure of its own, and returns the axes. Nothing here
needs a display or touches pyplot. Colours are Okabe and Ito's, which the colour-blind can
distinguish; line styles and markers make the same distinctions in black and white. `save` writes a
picture::

    ax = fastnn.plotting.learning_curves(history)
    fastnn.plotting.save(ax.figure, "curves.png")
"""

from fastnn.plotting.figures import (
    COLOURS,
    LINE_STYLES,
    MARKERS,
    line_style,
    new_axes,
    save,
    save_animation,
)

# Where Matplotlib is missing, the import above says what to install; those below would not.
# isort: split
from fastnn.plotting.curves import gradient_flow, learning_curves, lines
from fastnn.plotting.importance import importance_bars
from fastnn.plotting.layers import activation_histograms, layer_bars, neuron_bars
from fastnn.plotting.surfaces import cure_heatmap, decision_surface, loss_surface

__all__ = [
    "COLOURS",
    "LINE_STYLES",
    "MARKERS",
    "activation_histograms",
    "cure_heatmap",
    "decision_surface",
    "gradient_flow",
    "importance_bars",
    "layer_bars",
    "learning_curves",
    "line_style",
    "lines",
    "loss_surface",
    "neuron_bars",
    "new_axes",
    "save",
    "save_animation",
]
