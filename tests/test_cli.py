"""The command line as a new user meets it: results, files, exit statuses, and one line for every
mistake.
"""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import fastnn as fnn
from fastnn import datasets
from fastnn._kernels import threads
from fastnn.cli import commands
from fastnn.serialization import FORMAT
from fastnn.tabular import table

RNG = np.random.default_rng(0)
ROWS = 120
SIZE, KIND = RNG.normal(size=ROWS).round(3), RNG.choice(["a", "b", "c"], ROWS)
FLAG, AGE = RNG.random(ROWS) > 0.5, RNG.integers(0, 90, ROWS)
LABEL = np.where(SIZE + (KIND == "b") > 0.5, "yes", "no")
PRICE = (100 + 30 * SIZE + 10 * FLAG).round(2)
COLUMNS = {"size": SIZE, "kind": KIND, "age": AGE, "flag": FLAG}
SMALL = ("--backend", "numpy", "--layers", "8", "--batch-size", "8")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data():
    """CSV files: things.csv with the target label, prices.csv with the target price."""
    pytest.importorskip("pyarrow")
    table.write_columns("things.csv", {**COLUMNS, "label": LABEL})
    table.write_columns("prices.csv", {**COLUMNS, "price": PRICE})


@pytest.fixture
def run(capsys):
    """Run a command; returns what it printed, after checking its exit status."""

    def call(*arguments, status=0):
        capsys.readouterr()
        assert commands.main([str(argument) for argument in arguments]) == status
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return out, err

    return call


@pytest.fixture
def fails(run):
    """Run a command that must end in one line on standard error and nothing else; returns that
    line.
    """

    def call(*arguments, status=2):
        out, err = run(*arguments, status=status)
        assert out == ""
        assert re.fullmatch(r"fastnn: [^\n]+\n", err)
        return err

    return call


def read(path):
    with open(path) as file:
        return json.load(file)


def npz(path="d.npz", **arrays):
    np.savez(path, **arrays)
    return path


# --- train ----------------------------------------------------------------------------------------


def test_the_sample_is_learnt_at_once(run):
    out, err = run("train", "--backend", "numpy", "--metrics", "m.json", "--out", "m.fastnn")
    assert "4,500 to train on, 500 to validate, 1,000 to test" in err
    assert "784-256-128-10, 235,146 parameters, float32; numpy" in err
    figures = read("m.json")
    assert re.fullmatch(
        r"test accuracy (\S+) % after 10 epochs in \S+ s \(numpy\); saved to m.fastnn\n", out
    )[1] == (f"{100 * figures['test_accuracy']:.1f}")
    assert figures["test_accuracy"] >= 0.93
    assert figures["backend"] == "numpy"
    assert figures["fastnn"] == fnn.__version__
    assert figures["parameters"] == 235_146
    assert figures["epochs"] == 10
    assert figures["stopped"] is None
    assert figures["seconds"] > 0
    for curve in ("loss", "accuracy", "val_loss", "val_accuracy", "epoch_seconds", "lr"):
        assert len(figures[curve]) == 10
    out, _ = run("evaluate", "m.fastnn", "sample", "--backend", "numpy", "--metrics", "e.json")
    assert f"accuracy {100 * figures['test_accuracy']:.1f} % on 1,000 rows (numpy)" in out
    assert read("e.json")["loss"] == pytest.approx(figures["test_loss"])
    assert len(run("predict", "m.fastnn", "sample", "--backend", "numpy")[0].splitlines()) == 1001


def test_all_of_mnist(run, monkeypatch):
    train, test = datasets.mnist_sample()
    small = (
        tuple(array[:100] for array in train),
        tuple(array[100:150] for array in train),
        tuple(array[:20] for array in test),
    )
    monkeypatch.setattr(datasets, "mnist", lambda: small)
    assert (
        "MNIST: 100 to train on, 50 to validate, 20 to test"
        in run("train", "mnist", *SMALL, "--out", "m")[1]
    )
    assert "on 20 rows" in run("evaluate", "m", "mnist", "--backend", "numpy")[0]


def test_classes_by_name_from_csv_to_csv(run, data):
    err = run(
        "train",
        "things.csv",
        *SMALL,
        "--epochs",
        30,
        "--lr",
        0.01,
        "--out",
        "m.fastnn",
        "--metrics",
        "m.json",
    )[1]
    assert (
        "84 to train on, 18 to validate, 18 to test; 4 columns\ntarget 'label', the last column: 2 classes"
        in err
    )
    assert read("m.json")["test_accuracy"] > 0.8
    assert "accuracy" in run("evaluate", "m.fastnn", "things.csv", "--backend", "numpy")[0]
    assert run("predict", "m.fastnn", "things.csv", "-o", "p.csv", "--backend", "numpy") == ("", "")
    predicted = table.read_table("p.csv")
    assert predicted.names == ["prediction", "probability_no", "probability_yes"]
    assert np.mean(predicted["prediction"].values == LABEL) > 0.8
    np.testing.assert_allclose(
        predicted["probability_no"].values + predicted["probability_yes"].values, 1, atol=1e-6
    )


def test_predictions_in_every_format(run, data):
    run("train", "things.csv", *SMALL, "--epochs", 1, "--out", "m.fastnn", "--quiet")
    text, _ = run("predict", "m.fastnn", "things.csv", "--backend", "numpy")
    run("predict", "m.fastnn", "things.csv", "-o", "p.parquet", "--backend", "numpy")
    run("predict", "m.fastnn", "things.csv", "-o", "p.npz", "--backend", "numpy")
    names = list(table.read_table("p.parquet")["prediction"].values)
    assert names == [line.split(",")[0] for line in text.splitlines()[1:]]
    with np.load("p.npz") as file:
        assert file["prediction"].tolist() == names


def test_file_formats_agree(run, data):
    run("train", "things.csv", *SMALL, "--epochs", 1, "--out", "m.fastnn")
    table.write_columns(
        "things.parquet", {**dict(reversed(COLUMNS.items())), "id": np.arange(ROWS), "label": LABEL}
    )
    of_csv, of_parquet = (
        run("evaluate", "m.fastnn", f"things.{name}", "--backend", "numpy")[0]
        for name in ("csv", "parquet")
    )
    assert of_csv == of_parquet


def test_regression(run, data):
    out, err = run(
        "train",
        "prices.csv",
        *SMALL,
        "--epochs",
        60,
        "--lr",
        0.01,
        "--out",
        "m.fastnn",
        "--metrics",
        "m.json",
    )
    assert "target 'price', the last column: a number" in err
    assert re.match(r"test r2 0\.9\d+ after 60 epochs", out)
    figures = read("m.json")
    assert figures["test_r2"] > 0.9
    assert len(figures["val_r2"]) == 60
    assert "accuracy" not in figures
    assert "r2 0.9" in run("evaluate", "m.fastnn", "prices.csv", "--backend", "numpy")[0]
    predicted = np.array(
        run("predict", "m.fastnn", "prices.csv", "--backend", "numpy")[0].split()[1:], float
    )
    assert np.abs(predicted - PRICE).mean() < 10


def test_target_task_and_columns_can_be_chosen(run, data):
    err = run(
        "train", "things.csv", "--target", "age", "--ignore", "label", "--ignore", "kind", *SMALL
    )[1]
    assert "2 columns\ntarget 'age': a number" in err
    assert (
        "3 classes" in run("train", npz(X=RNG.normal(size=(40, 2)), y=np.arange(40) % 3), *SMALL)[1]
    )
    assert "a number" in run("train", "d.npz", "--task", "regression", *SMALL)[1]


def test_missing_numbers_are_announced(run, data):
    values = [*AGE[:-3].astype(str), "", "", ""]
    table.write_columns("holes.csv", {"age": np.array(values), "size": SIZE, "label": LABEL})
    note = "replaced by the mean of the training rows: 3 in 'age'"
    assert note in run("train", "holes.csv", *SMALL, "--out", "m.fastnn")[1]
    assert note in run("evaluate", "m.fastnn", "holes.csv", "--backend", "numpy")[1]


def test_names_of_rows_are_pointed_out(run, data):
    table.write_columns(
        "named.csv", {"id": np.array([f"row {i}" for i in range(200)]), "y": np.arange(200) % 2}
    )
    assert "column 'id' has 140 categories" in run("train", "named.csv", *SMALL)[1]


def test_a_class_with_one_member(run):
    run("train", npz(X=RNG.normal(size=(30, 2)), y=np.array([5, *[1] * 14, *[2] * 15])), *SMALL)


def test_every_option_reaches_the_network(run, monkeypatch):
    monkeypatch.setattr(threads, "_requested", None)  # and back after --threads
    npz(X=RNG.normal(size=(60, 8)), y=np.arange(60) % 3)
    options = "--layers 8,4 --activation tanh --dropout 0.1 --batch-norm --residual --l1 1e-4 --l2 1e-3 --dtype float64 --seed 7"
    training = "--epochs 2 --batch-size 16 --optimizer sgd --lr 0.1 --clip-norm 1 --patience 5 --threads 1 --backend numpy"
    run(
        "train",
        "d.npz",
        *options.split(),
        *training.split(),
        "--out",
        "m.fastnn",
        "--metrics",
        "m.json",
    )
    block = [
        fnn.Dense(8, l1=1e-4, l2=1e-3),
        fnn.BatchNorm(),
        fnn.Activation("tanh"),
        fnn.Dropout(0.1),
    ]
    last = [fnn.Dense(4, l1=1e-4, l2=1e-3), *block[1:], fnn.Dense(3, l1=1e-4, l2=1e-3)]
    net = fnn.load("m.fastnn")
    assert repr(net.layers) == repr([fnn.Residual(block), *last])
    assert (net.dtype.name, net.seed, net.epochs, net.optimizer_kind) == ("float64", 7, 2, "SGD")
    assert read("m.json")["lr"] == [0.1, 0.1]


def test_same_seed_same_figures(run):
    npz(X=RNG.normal(size=(60, 8)), y=np.arange(60) % 3)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("train", "d.npz", *SMALL, "--seed", seed, "--metrics", f"{name}.json")
    a, b, c = (read(f"{name}.json")["loss"] for name in "abc")
    assert a == b != c


def test_a_residual_that_does_nothing_is_noted(run):
    npz(X=RNG.normal(size=(60, 3)), y=np.arange(60) % 3)
    assert "--residual changes nothing" in run("train", "d.npz", *SMALL, "--residual")[1]


def test_no_hidden_layers(run):
    npz(X=RNG.normal(size=(60, 3)), y=np.arange(60) % 3)
    assert "network 3-3," in run("train", "d.npz", "--layers", "", "--backend", "numpy")[1]


def test_quiet_leaves_the_result(run):
    npz(X=RNG.normal(size=(60, 3)), y=np.arange(60) % 3)
    out, err = run("train", "d.npz", *SMALL, "--quiet")
    assert len(out.splitlines()) == 1
    assert "not saved: --out MODEL does that" in out
    assert err == ""


def test_early_stopping(run):
    npz(X=RNG.normal(size=(60, 3)), y=np.arange(60) % 2)  # nothing to learn
    out, _ = run(
        "train",
        "d.npz",
        *SMALL,
        "--epochs",
        500,
        "--lr",
        0.05,
        "--patience",
        2,
        "--metrics",
        "m.json",
    )
    figures = read("m.json")
    assert figures["epochs"] == len(figures["loss"]) < 500
    assert "val_loss" in figures["stopped"]
    assert figures["stopped"] in out


class Interruption:
    """In place of a callback: Ctrl-C after the second epoch."""

    def __init__(self, patience):
        pass

    def on_epoch_end(self, training):
        if training.epoch == 2:
            signal.raise_signal(signal.SIGINT)


def test_an_interrupted_run_is_not_lost(run, monkeypatch):
    npz(X=RNG.normal(size=(60, 3)), y=np.arange(60) % 3)
    monkeypatch.setattr(commands, "EarlyStopping", Interruption)
    options = ("--epochs", 1000, "--patience", 1, "--out", "m.fastnn", "--metrics", "m.json")
    out, _ = run("train", "d.npz", *SMALL, *options, status=130)
    assert re.match(
        r"test accuracy \S+ % after [23] epochs in \S+ s \(numpy; interrupted\); saved to m.fastnn",
        out,
    )
    assert read("m.json")["stopped"] == "interrupted"
    assert fnn.load("m.fastnn").epochs == read("m.json")["epochs"]


def test_interrupted_while_reading(run, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "mnist_sample", interrupt)
    assert run("train", "--backend", "numpy", status=130)[1].strip() == "fastnn: interrupted"


# --- models from Python ---------------------------------------------------------------------------


def save(path="plain.fastnn", outputs=3, loss="softmax_cross_entropy", inputs=2):
    net = fnn.Network([fnn.Dense(outputs)], inputs, loss, backend="numpy")
    net.save(path)
    return net


@pytest.mark.parametrize(
    ("loss", "outputs", "names"),
    [
        ("softmax_cross_entropy", 2, ["prediction", "probability_0", "probability_1"]),
        ("binary_cross_entropy", 1, ["prediction", "probability_0", "probability_1"]),
        ("mse", 1, ["prediction"]),
        ("mse", 2, ["prediction_0", "prediction_1"]),
    ],
)
def test_predictions_without_preprocessing(run, loss, outputs, names):
    net, X = save(outputs=outputs, loss=loss), RNG.normal(size=(5, 2)).astype(np.float32)
    npz(X=X, y=np.arange(5) % 2)
    for name in (npz("x.npz", X=X), "d.npz"):  # the target may be there or not
        run("predict", "plain.fastnn", name, "-o", "p.npz", "--backend", "numpy")
        with np.load("p.npz") as file:
            assert file.files == names
            np.testing.assert_allclose(file[names[-1]], net.predict(X)[:, -1], atol=1e-6)
            if net.loss.spec.classifies:
                np.testing.assert_array_equal(file["prediction"], np.round(file["probability_1"]))


def test_evaluation_without_preprocessing(run, data):
    net, y = save(), np.arange(ROWS) % 3
    X = np.column_stack([SIZE, AGE])
    table.write_columns("plain.csv", {"y": y, "size": SIZE, "age": AGE})
    out, _ = run(
        "evaluate",
        "plain.fastnn",
        "plain.csv",
        "--target",
        "y",
        "--backend",
        "numpy",
        "--metrics",
        "e.json",
    )
    assert f"on {ROWS} rows" in out
    assert read("e.json")["accuracy"] == pytest.approx(net.evaluate(X, y)["accuracy"])


def test_foreign_tables_without_preprocessing(fails, data):
    save()
    assert "column 'kind' is" in fails(
        "evaluate", "plain.fastnn", "things.csv", "--backend", "numpy"
    )
    assert "7 columns" in fails(
        "predict", "plain.fastnn", npz(X=np.ones((3, 7))), "--backend", "numpy"
    )
    npz(X=[[1, np.nan]], y=[1])
    assert "column 'x1' is empty in row 1" in fails(
        "evaluate", "plain.fastnn", "d.npz", "--backend", "numpy"
    )


# --- info and help --------------------------------------------------------------------------------


def test_info_of_the_installation(run):
    out, _ = run("info")
    for word in (
        fnn.__version__,
        np.__version__,
        "numpy engine  available",
        "cuda engine",
        "threads",
        "cache",
    ):
        assert word in out


def test_info_of_a_model(run, data):
    run("train", "things.csv", *SMALL, "--epochs", 3, "--out", "m.fastnn")
    out, _ = run("info", "m.fastnn")
    for word in (
        "Dense(units=8, activation='relu')",
        "softmax_cross_entropy",
        "float32",
        "Adam",
        "size, kind, age, flag",
        "no, yes",
    ):
        assert word in out
    assert re.search(r"^epochs +3$", out, re.MULTILINE)
    save(loss="mse")
    assert "columns" not in run("info", "plain.fastnn")[0]


@pytest.mark.parametrize(
    "command",
    [[], ["--help"], ["train", "--help"], ["evaluate", "-h"], ["predict", "-h"], ["info", "-h"]],
)
def test_help(run, command):
    assert run(*command)[0].startswith("Usage: fastnn")


def test_version(run):
    assert run("--version")[0] == f"fastnn {fnn.__version__}\n"


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("trian", "Did you mean 'train'?"),
        ("train --epoch 3", "Did you mean '--epochs'?"),
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
        ("two.csv", "2 samples"),
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
    assert "lacks the columns size, kind" in fails(
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


def test_divergence(run):
    npz(X=RNG.normal(size=(60, 3)), y=RNG.normal(size=60))
    options = ("--optimizer", "sgd", "--lr", "1e30", "--quiet", "--out", "m.fastnn")
    out, err = run("train", "d.npz", *SMALL, *options, status=1)
    assert out == ""
    assert re.fullmatch(r"fastnn: training diverged in epoch 1, [^\n]+\n", err)
    assert not os.path.exists("m.fastnn")


def test_not_enough_memory(run, monkeypatch):
    def exhaust(*sizes, **options):
        raise MemoryError("1 TiB")

    monkeypatch.setattr(commands, "mlp", exhaust)
    assert (
        run("train", "--quiet", "--backend", "numpy", status=2)[1]
        == "fastnn: not enough memory: 1 TiB\n"
    )


def test_no_permission(fails, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert fails("train", "--out", "m.fastnn") == "fastnn: no permission to write m.fastnn\n"


# --- as a process ---------------------------------------------------------------------------------


def process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fastnn", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def test_as_a_module():
    result = process("train", "nothing.csv")
    assert (result.returncode, result.stdout, result.stderr) == (
        2,
        "",
        "fastnn: there is no file nothing.csv\n",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_reader_that_leaves_early():
    save()
    npz(X=np.ones((20_000, 2)))
    command = [
        sys.executable,
        "-m",
        "fastnn",
        "predict",
        "plain.fastnn",
        "d.npz",
        "--backend",
        "numpy",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == ""


def test_the_library_stays_light():
    code = "import sys, fastnn; print(*{'click', 'rich', 'pyarrow', 'numba', 'scipy'} & set(sys.modules))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == ""
    )
