"""Files that commands write."""

import json

import numpy as np
import pytest

import fastnn as fnn

TRAIN = ("--layers", "3", "--epochs", "2", "--backend", "numpy")


@pytest.fixture
def table(tmp_path):
    """An NPZ file of a regression; of 100 rows."""
    x = np.arange(100.0)
    np.savez(tmp_path / "d.npz", X=x[:, None], y=x / 4 + x % 3)
    return tmp_path / "d.npz"


@pytest.mark.parametrize("option", ["--out", "--metrics"])
@pytest.mark.parametrize("how", ["the same", "by a link", "through a folder"])
def test_an_output_never_overwrites_the_data(fastnn_command, table, option, how):
    """Not under another name either; it is refused before any work.

    BurntSushi/xsv#92 and #200, dathere/qsv#4580, rspeer/python-ftfy#78.
    """
    name, before = "d.npz", table.read_bytes()
    if how == "by a link":
        name = "link.npz"
        (table.parent / name).hardlink_to(table)
    elif how == "through a folder":
        name = f"../{table.parent.name}/d.npz"
    done = fastnn_command("train", "d.npz", option, name, *TRAIN)
    assert done.status == 2
    assert option in done.lines[-1]
    assert table.read_bytes() == before


def test_two_outputs_are_two_files(fastnn_command, table):
    """The later one would be all that is left: BurntSushi/xsv#92, dathere/qsv#4580."""
    done = fastnn_command("train", "d.npz", "--out", "a", "--metrics", "./a", *TRAIN)
    assert done.status == 2
    assert not (table.parent / "a").exists()


def test_predictions_never_overwrite_the_model(fastnn_command, table):
    """dathere/qsv#4580, rspeer/python-ftfy#78."""
    assert fastnn_command("train", "d.npz", "--out", "m.fastnn", *TRAIN).status == 0
    for name in ("m.fastnn", "d.npz"):
        assert fastnn_command("predict", "m.fastnn", "d.npz", "-o", name).status == 2
    assert fnn.load(table.parent / "m.fastnn").epochs == 2


@pytest.mark.parametrize("value", [9.96921e36, 1e300])
def test_figures_are_json_that_every_reader_takes(fastnn_command, table, value):
    """One fill value among the rows makes a loss infinite, for which JSON has no word but null.

    treeverse/vscode-dvc#2733, The-OpenROAD-Project/OpenROAD#2715,
    Medical-Event-Data-Standard/MEDS-DEV#286.
    """

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    assert fastnn_command("train", "d.npz", "--out", "m.fastnn", *TRAIN).status == 0
    np.savez(table.parent / "e.npz", X=np.array([[1.0], [2.0], [value]]), y=np.arange(3.0))
    done = fastnn_command("evaluate", "m.fastnn", "e.npz", "--metrics", "f.json")
    if done.status == 0:
        figures = json.loads((table.parent / "f.json").read_text(), parse_constant=refuse)
        assert "loss" in figures
    else:
        assert done.status == 2
        assert not (table.parent / "f.json").exists()
