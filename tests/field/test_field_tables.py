"""Tables of the field: what is not plain is read right, named, or refused, never guessed."""

import re

import numpy as np
import pytest

pytest.importorskip("pyarrow")

TRAIN = ("--layers", "3", "--epochs", "1", "--backend", "numpy")


def csv(path, header, rows, encoding="utf-8"):
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))


def inputs(done):
    """The width of the network that was trained."""
    return int(re.search(r"network (\d+)-", done.err)[1])


@pytest.mark.parametrize("mark", [" ", "?", "#DIV/0!", "#VALUE!", "None", "-"])
def test_a_mark_for_nothing_makes_no_names_of_numbers(fastnn_command, tmp_path, mark):
    """Two such cells must not turn a column of amounts into a category a row.

    pola-rs/polars#14530, jasp-stats/jasp-desktop#1019, hnolCol/instantclue#16,
    biolab/orange3#5196; such cells are in the tables Telco (TotalCharges) and of UCI ("?").
    """
    rng = np.random.default_rng(8)
    amounts = [mark if i in (3, 33) else f"{rng.uniform(1, 99):.2f}" for i in range(80)]
    rows = [(f"{i / 8}", amount, "ny"[i % 2]) for i, amount in enumerate(amounts)]
    csv(tmp_path / "d.csv", "tenure,amount,left", rows)
    done = fastnn_command("train", "d.csv", *TRAIN)
    assert "amount" in done.err
    if done.status == 0:
        assert inputs(done) <= 3  # two numbers, and where one of them is missing
    else:
        assert done.status == 2


@pytest.mark.parametrize("row", [0, 20, 49])
@pytest.mark.parametrize("column", [0, 2])
def test_a_quote_that_is_not_closed_loses_no_rows(fastnn_command, tmp_path, row, column):
    """All rows behind it would be one cell, and nobody would know.

    pandas-dev/pandas#22140, #22661 and #22814, apple/turicreate#1692.
    """
    rows = [[f"a{i % 3}", i % 2, f"b{i % 4}"] for i in range(50)]
    rows[row][column] = '"' + rows[row][column]
    csv(tmp_path / "d.csv", "kind,sold,remark", rows)
    done = fastnn_command("train", "d.csv", "--target", "sold", *TRAIN)
    if done.status == 0:
        counts = re.findall(r"([\d,]+) to (?:train|validate|test)", done.err)
        assert sum(int(count.replace(",", "")) for count in counts) == 50
    else:
        assert done.status == 2
        assert "quote" in done.err


def test_a_category_that_training_did_not_meet_is_counted(fastnn_command, tmp_path):
    """It becomes all zeros, which is as if nothing were known: its user should hear of it.

    scikit-learn/scikit-learn#28637 and #16881, scikit-learn-contrib/category_encoders#154.
    """
    for name, towns in (("d", ("Ulm", "Bonn", "Jena")), ("new", ("Ulm", " Bonn.", "Gera"))):
        csv(tmp_path / f"{name}.csv", "town,n,y", [(towns[i % 3], i % 7, i % 2) for i in range(66)])
    assert fastnn_command("train", "d.csv", "--out", "m.fastnn", *TRAIN).status == 0
    for command in ("evaluate", "predict"):
        done = fastnn_command(command, "m.fastnn", "new.csv", "--backend", "numpy")
        assert done.status == 0
        (line,) = (line for line in done.lines if "town" in line)
        assert "44" in line


@pytest.mark.parametrize("name", ["customer_id", None, "y2"])
def test_the_index_of_a_data_frame_is_none_of_the_data(fastnn_command, tmp_path, name):
    """The file's metadata name it; it is not a target only because it comes last.

    apache/arrow#3744 and #1452.
    """
    pandas = pytest.importorskip("pandas")
    numbers = np.arange(90)
    index = pandas.Index(numbers * 7 + 100, name=name)
    columns = {"x": numbers % 9, "y": (numbers % 9 > 3).astype(int)}
    pandas.DataFrame(columns, index=index).to_parquet(tmp_path / "d.parquet")
    done = fastnn_command("train", "d.parquet", *TRAIN)
    assert done.status == 0
    assert "target 'y'" in done.err
    assert inputs(done) == 1


EUROPEAN = "breite;länge;sorte\n" + "1,5;2,25;0\n0,5;4,75;1\n" * 20
ENGLISH = EUROPEAN.replace(",", ".").replace(";", ",")
ODD_FILES = {
    "utf-16": (ENGLISH.encode("utf-16"), "--encoding"),
    "tabs in utf-16": (
        ENGLISH.replace(",", "\t").encode("utf-16"),
        "--encoding",
    ),
    "semicolons": (EUROPEAN.encode(), "--delimiter"),
    "sep=": (f"sep=;\n{EUROPEAN}".encode(), "--delimiter"),
    "latin-1": (ENGLISH.encode("latin-1"), "--encoding"),
}


@pytest.mark.parametrize(("data", "option"), ODD_FILES.values(), ids=ODD_FILES)
def test_a_table_of_another_custom_is_refused_with_what_reads_it(
    fastnn_command, tmp_path, data, option
):
    """Excel's text and the semicolons of half of Europe, in one line and before any training.

    vividvilla/csvtotable#35, Unstructured-IO/unstructured#4443, haesleinhuepf/devbio-napari#46,
    SheetJS/sheetjs#2239, harelba/q#80.
    """
    (tmp_path / "d.csv").write_bytes(data)
    done = fastnn_command("train", "d.csv", *TRAIN)
    assert done.status == 2
    (line,) = done.lines
    assert option in line
