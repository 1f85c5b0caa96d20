"""Options that the programs of this folder share."""

import argparse
import datetime
from collections.abc import Callable, Collection


def parser(doc: str, engines: Collection[str]) -> argparse.ArgumentParser:
    """A parser for a program that compares engines; ``doc`` is the program's docstring."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--threads", type=int, default=2)
    made.add_argument(
        "--engines",
        type=names(engines),
        help=f"some of {','.join(engines)}; default: all that are installed",
    )
    made.add_argument("--json", help="file for the figures, written after every round")
    made.add_argument("--date", default=today(), help="to enter into the file")
    return made


def today() -> str:
    """The date as ISO 8601 has it."""
    return datetime.date.today().isoformat()


def names(known: Collection[str]) -> Callable[[str], list[str]]:
    """A parser of names between commas, each of which must be known."""

    def parse(text):
        unknown = set(text.split(",")) - set(known)
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
        return text.split(",")

    return parse
