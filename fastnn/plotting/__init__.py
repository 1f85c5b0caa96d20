"""Charts of training, gradients and decisions. They need Matplotlib: ``pip install
'fastnn[plot]'``.
"""

from fastnn.plotting.charts import *  # noqa: F403
from fastnn.plotting.charts import __all__

__all__ = list(__all__)
