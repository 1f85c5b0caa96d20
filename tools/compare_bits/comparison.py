"""Compare two files of results. It needs no fastnn."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

LISTED = 5  # names of differing digests that a line holds at most
_MISSING = object()  # is equal to no digest


class Verdict(NamedTuple):
    """The outcome of one case: "equal", "differ", "failed", "missing" or "not compared"."""

    kind: str
    detail: str = ""


def compare(path_a: Path, path_b: Path, ignore: Sequence[str] = ()) -> int:
    """Compare two files that ``write`` wrote, and print a summary and each case that differs.

    Parameters
    ----------
    path_a, path_b : Path
    ignore : sequence of str
        Digests whose names contain one of these texts are left out.

    Returns
    -------
    int
        The exit status: 1 if a case differs, failed or is missing, or if no case was compared.
    """
    a, b = (json.loads(path.read_bytes()) for path in (path_a, path_b))
    print_settings(a["about"], b["about"], path_a, path_b)
    verdicts, ignored = {}, Counter()
    for name in {**a["cases"], **b["cases"]}:
        if name not in a["cases"] or name not in b["cases"]:
            path = path_a if name in a["cases"] else path_b
            verdicts[name] = Verdict("missing", f"only in {path}")
        elif "error" in a["cases"][name] or "error" in b["cases"][name]:
            verdicts[name] = Verdict("failed", "failed")
        else:
            checks = equal_digests(a["cases"][name], b["cases"][name])
            left_out = {digest for digest in checks if any(text in digest for text in ignore)}
            ignored.update(checks[digest] for digest in left_out)
            verdicts[name] = verdict({d: checks[d] for d in checks if d not in left_out})
    print_summary(verdicts)
    if ignore:
        texts = " or ".join(map(repr, ignore))
        print(f"ignored: {ignored.total()} digests with {texts} in their names, ", end="")
        print(f"of which {ignored[False]} differ")
    for name, (_, detail) in verdicts.items():
        if detail:
            print(f"  {name}: {detail}")
    kinds = {kind for kind, _ in verdicts.values()}
    return 0 if "equal" in kinds and kinds <= {"equal", "not compared"} else 1


def verdict(checks: Mapping[str, bool]) -> Verdict:
    """The verdict on a case, from what `equal_digests` returns."""
    if not checks:
        return Verdict("not compared")
    names = [name for name, equal in checks.items() if not equal]
    return Verdict("differ", f"differs in {first_of(names)}") if names else Verdict("equal")


def equal_digests(a: Any, b: Any) -> dict[str, bool]:
    """Whether two results are equal in each digest, by name: ``parameters/0.weight``."""
    left, right = flatten(a), flatten(b)
    return {
        name: left.get(name, _MISSING) == right.get(name, _MISSING) for name in {**left, **right}
    }


def differing(a: Any, b: Any) -> list[str]:
    """Names of the digests in which two results differ."""
    return [name for name, equal in equal_digests(a, b).items() if not equal]


def flatten(result: Any, prefix: str = "") -> dict[str, Any]:
    """The digests of a result by name: the keys of nested dictionaries, joined by slashes."""
    if not isinstance(result, Mapping) or not result:
        return {prefix: result}
    flat = {}
    for key, value in result.items():
        flat |= flatten(value, f"{prefix}/{key}" if prefix else key)
    return flat


def first_of(names: Sequence[str]) -> str:
    """The first names, and how many follow."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def print_settings(a: Mapping[str, Any], b: Mapping[str, Any], path_a: Path, path_b: Path) -> None:
    """Print which versions and settings two files do not share."""
    for name in sorted({*a, *b}):
        if a.get(name) != b.get(name):
            print(f"note: {name} is {a.get(name)} in {path_a}, and {b.get(name)} in {path_b}")


def print_summary(verdicts: Mapping[str, Verdict]) -> None:
    """Print counts of verdicts: of all cases, for each engine, and for each of its dtypes."""
    engines, dtypes = defaultdict(Counter), defaultdict(Counter)
    for name, (kind, _) in verdicts.items():
        engine, *dtype = name.partition(" |")[0].split()[:2]
        engines[engine][kind] += 1
        if dtype:
            dtypes[engine, *dtype][kind] += 1
    total = sum(engines.values(), Counter())
    print(f"{total['equal']} of {len(verdicts)} cases are equal")
    for engine, counts in engines.items():
        print(f"{engine}: {shown(counts)}")
        for (name, dtype), of_dtype in dtypes.items():
            if name == engine:
                print(f"  {dtype}: {shown(of_dtype)}")


def shown(counts: Counter[str]) -> str:
    """Counts of verdicts as text; "equal" and "differ" are shown even if they are 0."""
    others = [kind for kind in ("missing", "failed", "not compared") if counts[kind]]
    return ", ".join(f"{counts[kind]} {kind}" for kind in ("equal", "differ", *others))
