"""Every mistake on the command line ends in one line on standard error and an exit status."""

import os
import re

import numpy as np
import pytest
from cli_cases import RNG, SMALL, npz, read, save

import fastnn as fnn
from fastnn.cli.training import network as layers
from fastnn.serialization import FORMAT


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("trian", "Did you mean 'train'?"),
        ("train --epoch 3", "'--epochs'"),
        ("train --epochs 0", "'--epochs'"),
        ("train --epochs many", "'many'"),
        ("train --epochs", "'--epochs'"),
        ("train --batch-size 0", "'--batch-size'"),
        ("train --seed -1", "'--seed'"),
        ("train --seed 18446744073709551616", "'--seed'"),
        ("train --threads 0", "'--threads'"),
        ("train --layers 3,x", "'3,x' is not a list of widths"),
        ("train --layers 8,0", "'8,0'"),
        ("train --dropout 1", "'--dropout'"),
        ("train --l2 -1", "'--l2'"),
        ("train --lr -1", "lr must lie in [0, inf), not -1.0"),
        ("train --clip-norm 0", "clip_norm"),
        ("train --optimizer adm", "unknown optimizer 'adm' (did you mean 'adam'?); known: sgd,"),
        ("train --optimizer lbfgs --lr 1", "lbfgs takes no --lr"),
        ("train --activation rellu", "unknown activation 'rellu' (did you mean 'relu'?)"),
        ("train --backend nump", "unknown backend 'nump' (did you mean 'numpy'?)"),
        ("train --dtype float16", "unknown dtype 'float16'"),
        ("train --task sorting", "unknown task 'sorting'"),
        ("train --target x", "go with a data file, not with sample"),
        ("train mnist more", "unexpected extra argument"),
        ("train minst", "expected sample or mnist, or a file that ends in .csv, .parquet or .npz"),
        ("train nothing.csv", "no file nothing.csv"),
        ("train d.txt", "d.txt must end in one of"),
        ("train --out nowhere/m.fastnn", "the folder of nowhere/m.fastnn does not exist"),
        ("train --metrics nowhere/m.json", "nowhere/m.json"),
        ("train --out .", "folder"),
        ("evaluate", "Missing argument 'MODEL'"),
        ("evaluate nothing d.npz", "nothing: No such file"),
        ("evaluate nothing d.npz --metrics nowhere/m.json", "nowhere/m.json"),
        ("predict nothing d.npz -o p.txt", "p.txt must end in one of .csv, .parquet, .npz"),
        ("predict nothing d.npz -o nowhere/p.csv", "the folder of nowhere/p.csv"),
        ("info nothing", "nothing: No such file"),
    ],
)
def test_mistakes(fails, line, problem):
    assert problem in fails(*line.split())


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "things.csv --target lable",
            "unknown column 'lable' (did you mean 'label'?); known: size, kind, age, flag, label",
        ),
        ("things.csv --ignore id", "unknown column 'id'"),
        ("things.csv --task regression", "column 'label' is"),
        ("prices.csv --task classification", "classification takes"),
        ("broken.csv", "Row #2: Expected 2 columns, got 1"),
        ("garbage.csv", "garbage.csv"),
        ("one.csv", "commas"),
        ("same.csv", "nothing to learn"),
        ("two.csv", "there are 2 rows, and at least 3 are needed"),
    ],
)
def test_bad_tables(fails, data, tmp_path, line, problem):
    contents = {
        "broken": "a,b\n1\n",
        "one": "a;b\n1;2\n3;4\n5;6\n",
        "same": "a,b\n1,2\n2,2\n",
        "two": "a,b\n1,1\n2,2\n",
    }
    for name, text in contents.items():
        (tmp_path / f"{name}.csv").write_text(text)
    (tmp_path / "garbage.csv").write_bytes(RNG.bytes(3000))
    assert problem in fails("train", *line.split(), *SMALL)


@pytest.mark.parametrize("damage", [b"", b"text", None, "cut", "flipped"])
def test_damaged_models(fails, tmp_path, damage):
    save()
    whole = (tmp_path / "plain.fastnn").read_bytes()
    contents = {
        None: FORMAT.encode() * 9,
        "cut": whole[:-20],
        "flipped": whole[:-5] + b"\xff" + whole[-4:],
    }.get(damage, damage)
    (tmp_path / "plain.fastnn").write_bytes(contents)
    for command in (["info"], ["evaluate"], ["predict"]):
        assert "plain.fastnn" in fails(
            *command, "plain.fastnn", *(["d.npz"] if command != ["info"] else [])
        )


def test_models_and_data_that_do_not_fit(fails, run, data):
    run("train", "things.csv", *SMALL, "--epochs", 1, "--out", "m.fastnn")
    with_numpy = ("--backend", "numpy")
    assert "prices.csv lacks the target column 'label'" in fails(
        "evaluate", "m.fastnn", "prices.csv", *with_numpy
    )
    assert "lacks the columns size, age" in fails(
        "predict", "m.fastnn", npz(X=np.ones((3, 2))), *with_numpy
    )
    assert "not the images of sample" in fails("predict", "m.fastnn", "sample", *with_numpy)
    assert "trained to predict 'label'" in fails(
        "evaluate", "m.fastnn", "things.csv", "--target", "age", *with_numpy
    )


def test_foreign_metadata(fails):
    net = save()
    net.metadata["preprocessing"] = ["mine"]
    net.save("plain.fastnn")
    assert "preprocessing" in fails("predict", "plain.fastnn", "d.npz", "--backend", "numpy")


@pytest.mark.parametrize("patience", [(), ("--patience", 3)])
def test_what_was_learnt_before_a_divergence_is_saved(run, patience):
    npz(X=RNG.normal(size=(60, 3)), y=RNG.normal(size=60))
    files = ("--out", "m.fastnn", "--metrics", "m.json")
    options = ("--optimizer", "sgd", "--lr", "1e30", "--quiet", *files, *patience)
    out, err = run("train", "d.npz", *SMALL, *options, status=1)
    assert out == ""
    assert re.fullmatch(r"fastnn: training diverged in epoch 1, [^\n]+; saved to m\.fastnn\n", err)
    net, figures = fnn.load("m.fastnn", "numpy"), read("m.json")
    assert np.isfinite(net.state.theta).all()
    assert figures["stopped"].startswith("diverged in epoch 1")
    assert set(figures) >= {"test_loss", "test_r2", "seconds"}


def test_a_divergence_without_out_says_that_nothing_is_saved(run):
    npz(X=RNG.normal(size=(60, 3)), y=RNG.normal(size=60))
    options = ("--optimizer", "sgd", "--lr", "1e30", "--quiet")
    assert "not saved: --out" in run("train", "d.npz", *SMALL, *options, status=1)[1]


def test_not_enough_memory(run, monkeypatch):
    def exhaust(*sizes, **options):
        raise MemoryError("1 TiB")

    monkeypatch.setattr(layers, "mlp_layers", exhaust)
    assert (
        run("train", "--quiet", "--backend", "numpy", status=2)[1]
        == "fastnn: not enough memory: 1 TiB\n"
    )


def test_no_permission(fails, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert fails("train", "--out", "m.fastnn") == "fastnn: no permission to write m.fastnn\n"
