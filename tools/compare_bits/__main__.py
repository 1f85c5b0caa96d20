"""Prove that a change of fastnn changes no bit of its results.

::

    PYTHONPATH=old python tools/compare_bits write old.json
    PYTHONPATH=new python tools/compare_bits write new.json
    python tools/compare_bits compare old.json new.json

    PYTHONPATH=old python tools/compare_bits save models
    PYTHONPATH=new python tools/compare_bits load models

``write`` trains networks of every kind with the fastnn that is importable, on each CPU engine, in
both dtypes, on one thread and on two, and writes digests of all results. ``compare --ignore
val_,flow/`` leaves out digests that are meant to change, by texts in their names. ``save`` writes
model files and digests of what the models predict and how they train on; ``load`` checks that
another version loads the files and trains on to the same bits.

Only the public interface is used. Results depend on the processor, on NumPy, SciPy and Numba, and
on FASTNN_CPU_LEVEL: run both versions on one machine, in one environment.
"""

import argparse
import importlib.util
import os
import sys
import warnings
from pathlib import Path

ENGINES = ("numpy", "numba", "cython")


def names(text: str) -> list[str]:
    """Texts separated by commas; none may be empty."""
    texts = text.split(",")
    if not all(texts):
        raise argparse.ArgumentTypeError(f"an empty text between the commas of {text!r}")
    return texts


def command_line() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    parser = argparse.ArgumentParser(
        prog="compare_bits", description=(__doc__ or "").partition("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="train, and write digests to a file")
    write.add_argument("file", type=Path)
    write.add_argument("--engines", type=names, default=ENGINES, help="separated by commas")
    write.add_argument("--only", default="", metavar="TEXT", help="cases with TEXT in their names")
    compare = commands.add_parser("compare", help="compare two files that write wrote")
    compare.add_argument("a", type=Path)
    compare.add_argument("b", type=Path)
    compare.add_argument(
        "--ignore",
        type=names,
        default=(),
        metavar="TEXT[,TEXT]",
        help="leave out digests with one of the texts in their names, such as val_,flow/",
    )
    save = commands.add_parser("save", help="train, and write model files to a folder")
    save.add_argument("folder", type=Path)
    load = commands.add_parser("load", help="load the model files that save wrote, and compare")
    load.add_argument("folder", type=Path)
    return parser


def main() -> int:
    """Run the command line and return the exit status."""
    parser = command_line()
    options = parser.parse_args()
    if options.command == "compare":
        from comparison import compare

        return compare(options.a, options.b, options.ignore)
    if options.command == "write" and (unknown := sorted({*options.engines} - {*ENGINES})):
        parser.error(f"no engine is called {', '.join(unknown)}; there are: {', '.join(ENGINES)}")
    if importlib.util.find_spec("fastnn") is None:
        parser.error("there is no fastnn to import; put its folder into PYTHONPATH")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # sums round by the number of threads
    warnings.simplefilter("ignore", RuntimeWarning)  # one network diverges
    if options.command == "write":
        from runs import write

        return write(options.file, options.engines, options.only)
    from models import load, save

    run = save if options.command == "save" else load
    return run(options.folder, ENGINES)


if __name__ == "__main__":
    sys.exit(main())
