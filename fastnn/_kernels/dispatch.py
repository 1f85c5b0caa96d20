"""Chains of ifs that choose a formula, or a loop, by its code: generated, so that none is missing.

Numba compiles such a chain like one written by hand. Where the code is a constant the chain folds.
"""

from collections.abc import Callable, Mapping
from typing import Any


def by_code(arguments: str, functions: Mapping[int, Callable]) -> Callable:
    """The function of ``code`` and ``arguments`` that calls the function of that code.

    Parameters
    ----------
    arguments : str
        Names of the arguments after the code, separated by commas.
    functions : mapping
        Code → function of these arguments. The last stands for every other code.
    """
    names = {f"case_{code}": function for code, function in functions.items()}
    *firsts, last = functions
    cases = [f"    if code == {code}:\n        return case_{code}({arguments})" for code in firsts]
    return _define(
        [f"def chosen(code, {arguments}):", *cases, f"    return case_{last}({arguments})"], names
    )


def loop_by_code(
    arguments: str, loop: Callable, codes: Mapping[int, str], exhaustive: bool = False
) -> Callable:
    """The function of ``code`` and ``arguments`` that runs ``loop`` with that code as a literal.

    A loop that is compiled for a literal code contains one formula and vectorises.

    Parameters
    ----------
    arguments : str
        Names of the arguments after the code, separated by commas.
    loop : callable
        Takes the code, then what the mapping says, then the arguments.
    codes : mapping
        Code → further literal arguments, such as ``"2, True, "``.
    exhaustive : bool
        Whether there are no other codes: the last of them then stands for every other one, and the
        function returns what the loop returns. Otherwise other codes do nothing.
    """
    lines = [f"def chosen(code, {arguments}):"]
    for code, literals in codes.items():
        call = f"loop({code}, {literals}{arguments})"
        if exhaustive and code == list(codes)[-1]:
            lines.append(f"    return {call}")
        elif exhaustive:
            lines += [f"    if code == {code}:", f"        return {call}"]
        else:
            lines += [f"    if code == {code}:", f"        {call}"]
    return _define(lines, {"loop": loop})


def _define(lines: list[str], names: dict[str, Any]) -> Callable:
    exec("\n".join(lines), names)
    return names["chosen"]
