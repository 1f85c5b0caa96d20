"""What the commands say about odd tables: notes where they go on, one line where they do not."""

import numpy as np
import pytest
from cli_cases import RNG, SMALL, npz

from fastnn.tabular import formats

pytest.importorskip("pyarrow")

TRAIN = (*SMALL, "--epochs", "1", "--out", "m.fastnn")
WITH_NUMPY = ("--backend", "numpy")


def write(name="d.csv", *, n=60, y=lambda i: i % 2, encoding="utf-8", **columns):
    """A CSV file whose cells are functions of the row; of one function a list is a choice."""
    cells = {"n": lambda i: i / 4, **columns, "y": y}
    lines = [",".join(cells)]
    lines += [",".join(str(cell(i)) for cell in cells.values()) for i in range(n)]
    with open(name, "w", encoding=encoding) as file:
        file.write("\n".join(lines) + "\n")


# --- targets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (lambda i: f"{i % 2}.0", "2 classes (0, 1; --task regression for a quantity)"),
        (lambda i: i % 15 + 1, "a number (15 different whole numbers; --task classification"),
        (lambda i: i % 3, "3 classes (0, 1, 2; --task regression"),
        (lambda i: 1.5 * i, "a number\n"),
        (lambda i: ("007", "010")[i % 2], "2 classes\n"),
    ],
)
def test_what_is_decided_about_a_target_is_said(run, target, line):
    write(y=target)
    assert f"target 'y', the last column: {line}" in run("train", "d.csv", *TRAIN)[1]


def test_class_codes_keep_their_zeros(run):
    write(zip=lambda i: ("01234", "10234")[i % 2], y=lambda i: ("007", "010", "100")[i % 3])
    err = run("train", "d.csv", *TRAIN)[1]
    assert "'zip' ('01234' in row 1), 'y' ('007' in row 1)" in err
    assert "network 2-8-3" in err
    lines = run("predict", "m.fastnn", "d.csv", *WITH_NUMPY)[0].splitlines()
    assert lines[0] == "prediction,probability_007,probability_010,probability_100"
    assert {line.split(",")[0] for line in lines[1:]} <= {"007", "010", "100"}
    assert "on 60 rows" in run("evaluate", "m.fastnn", "d.csv", *WITH_NUMPY)[0]


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz"])
def test_predicted_times_are_as_fine_as_the_target(run, ending):
    npz(X=RNG.normal(size=(400, 3)), y=1.7e9 + np.arange(400.0) * 60)
    run("train", "d.npz", *TRAIN)
    run("predict", "m.fastnn", "d.npz", "-o", f"p.{ending}", *WITH_NUMPY)
    if ending == "npz":
        with np.load("p.npz") as file:
            predicted = file["prediction"]
    else:
        predicted = formats.read_table(f"p.{ending}")["prediction"].values
    assert len(np.unique(predicted)) > 390


# --- columns --------------------------------------------------------------------------------------


def test_a_typo_is_named_and_each_option_helps(run, fails):
    write(b=lambda i: "O.5" if i == 16 else i / 2)
    line = fails("train", "d.csv", *TRAIN)
    for word in ("column 'b'", "'O.5' in row 17", "--number b", "--text b", "--ignore b"):
        assert word in line
    assert "network 1-8-2" in run("train", "d.csv", "--ignore", "b", *TRAIN)[1]
    assert "network 2-8-2" not in run("train", "d.csv", "--text", "b", *TRAIN)[1]
    err = run("train", "d.csv", "--number", "b", *TRAIN)[1]
    assert "network 3-8-2" in err  # a number, and where it is missing
    assert "1 of 'b' ('O.5' in row 17)" in err
    # the model remembers
    assert "1 of 'b' ('O.5' in row 17)" in run("predict", "m.fastnn", "d.csv", *WITH_NUMPY)[1]


@pytest.mark.parametrize("option", ["--text", "--number", "--ignore"])
def test_options_of_unknown_columns(fails, option):
    write()
    assert "unknown column 'm'" in fails("train", "d.csv", option, "m", *TRAIN)


def test_numbers_are_wanted_where_the_model_knows_numbers(run, fails):
    write(b=lambda i: i / 2)
    run("train", "d.csv", *TRAIN)
    write("e.csv", b=lambda i: "many" if i == 3 else i)
    assert "'b' is 'many' in row 4; expected a number" in fails(
        "predict", "m.fastnn", "e.csv", *WITH_NUMPY
    )


def test_markers_are_announced(run):
    write(b=lambda i: ("?", "#DIV/0!")[i] if i < 2 else i / 2)
    for command in (("train", "d.csv", *TRAIN), ("predict", "m.fastnn", "d.csv", *WITH_NUMPY)):
        assert "markers of missing numbers: 2 in 'b' ('?', '#DIV/0!')" in run(*command)[1]


def test_many_columns_make_few_notes(run):
    write(**{f"c{i}": lambda i: "?" if i == 1 else i for i in range(50)})
    assert "1 in 'c4' ('?') and 45 more" in run("train", "d.csv", *TRAIN)[1]


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_unknown_categories_are_counted(run, fails, command):
    write(colour=lambda i: ("red", "green", "blue")[i % 3])
    run("train", "d.csv", *TRAIN)
    write("e.csv", colour=lambda i: ("red", "green ", "")[i % 3])
    err = run(command, "m.fastnn", "e.csv", *WITH_NUMPY)[1]
    assert "no category of the training rows: 40 in 'colour' ('green ' in row 2)" in err
    write("e.csv", colour=lambda i: ("rot", "blau")[i % 2])
    assert "'colour' is 'rot' in row 1" in fails(command, "m.fastnn", "e.csv", *WITH_NUMPY)


def test_names_of_rows_do_not_take_gigabytes(run):
    write(n_rows=lambda i: f"row {i}", n=12_000)
    err = run("train", "d.csv", *TRAIN)[1]
    assert "left out 1: n_rows (looks like an identifier)" in err
    assert "network 1-8-2" in err


# --- files ----------------------------------------------------------------------------------------


def test_options_of_files_reach_every_command(run, fails):
    with open("d.csv", "w", encoding="utf-16") as file:
        file.write("n;y\n" + "".join(f"{i},5;{i % 2}\n" for i in range(60)))
    options = ("--encoding", "utf-16", "--delimiter", ";", "--decimal", ",")
    assert "network 1-8-2" in run("train", "d.csv", *options, *TRAIN)[1]
    for command in ("predict", "evaluate"):
        assert "--encoding utf-16" in fails(command, "m.fastnn", "d.csv", *WITH_NUMPY)
        run(command, "m.fastnn", "d.csv", *options, *WITH_NUMPY)
    assert "go with a data file" in fails("train", "sample", *options, *TRAIN)


def test_tabs_have_a_name(run):
    with open("d.csv", "w") as file:
        file.write("n\ty\n" + "".join(f"{i}\t{i % 2}\n" for i in range(60)))
    for name in ("tab", r"\t", "\t"):
        run("train", "d.csv", "--delimiter", name, *TRAIN)


@pytest.mark.parametrize(
    ("contents", "problem"),
    [
        (b"", "empty"),
        (b"a,b\n", "no rows"),
        (b"a,b\n1,2\n", "every row"),
        (b"y\n" + b"1\n2\n" * 30, "no column to learn from"),
        (b"a,y\n" + b"3,1\n3,2\n" * 30, "'a' is left out (the same in every row); --keep COLUMN"),
        (b"a,a\n1,2\n", "two columns named 'a'"),
        (b"a,y\n" + b"inf,1\n2,2\n" * 30, "'a' is infinite in row 1"),
        (b"a,y\n" + b"1e999,1\n2,2\n" * 30, "'a' is infinite in row 1"),
        (b"a,y\n" + b"1,?\n2,2\n" * 30, "'y' is empty in row 1, or marked as missing"),
        (
            b"a,y\n" + b"02.01.2020,1\n02.01.2021,2\n" * 30,
            "column 'a' is '02.01.2020' in row 1, and all its cells look like dates",
        ),
        (b"a,y\n1,\x002\n" * 9, "NUL"),
        (b"a,y\n1,2,3\n", "Expected 2 columns, got 3"),
        (b"x" * 200_000 + b",y\n1,2\n", "field larger"),
    ],
)
def test_odd_tables(fails, contents, problem):
    with open("d.csv", "wb") as file:
        file.write(contents)
    assert problem in fails("train", "d.csv", *TRAIN)


@pytest.mark.parametrize(
    "contents",
    [
        b"a,y\r1,2\n2,3\r\n" + b"1,2\n2,3\r\n" * 30,
        b"a,y\n" + b"x" * 1_000_000 + b",1\n" + b"z,1\nu,2\n" * 30,
        b"a,b,y\n" + b",1,0\n,2,1\n" * 30,
        b"a,y\n" + b"2020-01-02,1\n2021-01-02,2\n" * 30,
    ],
)
def test_odd_tables_that_can_be_learnt(run, contents):
    with open("d.csv", "wb") as file:
        file.write(contents)
    run("train", "d.csv", *TRAIN)
