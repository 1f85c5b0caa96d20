"""Fixtures of the tests of trouble that was reported in public about programs of this kind.

Each test tells the situation in its docstring, and names the report.
"""

from types import SimpleNamespace

import pytest

from fastnn.cli import main


@pytest.fixture
def fastnn_command(tmp_path, monkeypatch, capsys):
    """Run a command line in a folder of its own; it must not end in a traceback."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return SimpleNamespace(status=status, out=out, err=err, lines=err.splitlines())

    return call
