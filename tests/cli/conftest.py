"""Fixtures of the tests of the command line: commands run in the process, in an empty folder."""

import re

import pytest
from cli_cases import COLUMNS, LABEL, PRICE

from fastnn.cli import main
from fastnn.tabular import formats


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data():
    """CSV files: things.csv with the target label, prices.csv with the target price."""
    pytest.importorskip("pyarrow")
    formats.write_columns("things.csv", {**COLUMNS, "label": LABEL})
    formats.write_columns("prices.csv", {**COLUMNS, "price": PRICE})


@pytest.fixture
def run(capsys):
    """Run a command; returns what it printed, after checking its exit status."""

    def call(*arguments, status=0):
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == status
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return out, err

    return call


@pytest.fixture
def fails(run):
    """Run a command that must end in one line on standard error; returns that line."""

    def call(*arguments, status=2):
        out, err = run(*arguments, status=status)
        assert out == ""
        assert re.fullmatch(r"fastnn: [^\n]+\n", err)
        return err

    return call
