"""What model files of version 0.1.0 say of a table, made as that version made it."""

import numpy as np

from fastnn.data.scalers import Standardizer
from fastnn.tabular.preprocessing import Preprocessing
from fastnn.tabular.table import NUMBER_KINDS
from fastnn.tabular.targets import Classes


def description(table, target, task, rows, ignore=()):
    """The plain data under the key "preprocessing", learnt from the training rows."""
    columns = [c for name, c in table.columns.items() if name not in {target, *ignore}]
    return {
        "features": [
            _number(c, rows) if c.kind in NUMBER_KINDS else _names(c, rows) for c in columns
        ],
        "target": _classes(table[target], rows)
        if task == "classification"
        else {**_number(table[target], rows), "type": "Value"},
    }


def learnt(*arguments):
    return Preprocessing.from_dict(description(*arguments))


def _number(column, rows):
    known = column.numbers()[rows]
    known = known[~np.isnan(known)]
    mean, scale = 0.0, 1.0
    if known.size:
        scaler = Standardizer().fit(known[:, None])
        mean, scale = float(scaler.mean_[0]), float(scaler.scale_[0])
    return {"type": "Number", "name": column.name, "mean": mean, "scale": scale}


def _names(column, rows):
    codes, names = column.coded()
    found = sorted(names[code] for code in np.unique(codes[rows]))
    return {"type": "Category", "name": column.name, "categories": found}


def _classes(column, rows):
    target = Classes.fit(column, rows)
    classes = list(target.classes)
    return {"type": "Classes", "name": target.name, "kind": target.kind, "classes": classes}
