"""Attempts one after another, counted by their outcomes."""

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Protocol

import numpy as np

from fastnn.training.interrupts import ctrl_c_raises

_MOST_FAULTS = 20  # shown; more are only counted


class Fault(Exception):
    """What must not happen, happened."""


class Campaign(Protocol):
    """Attempts of one kind. Its constructor prepares what they share, in a folder of its own."""

    def attempt(self, rng: np.random.Generator) -> str:
        """Make one attempt, drawn from ``rng``; returns its outcome, or raises `Fault`."""
        ...


def check(condition: object, message: str) -> None:
    """Raise `Fault` with ``message`` unless the condition holds."""
    if not condition:
        raise Fault(message)


def run(name: str, kind: type, options: argparse.Namespace) -> int:
    """Run a campaign, print its counts, and return the exit status."""
    outcomes, faults = Counter(), []
    started = time.monotonic()
    home = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="fastnn-campaign-") as folder:
        try:
            campaign = kind(Path(folder))
            with ctrl_c_raises():  # out of a training too, which would only end early
                for number in _numbers(options, started):
                    outcome, fault = _outcome(campaign, options.seed, number)
                    outcomes[outcome] += 1
                    if fault:
                        faults.append(number)
                        _show_fault(name, options.seed, number, fault, len(faults))
                    _show_progress(outcomes, len(faults))
        except KeyboardInterrupt:
            print("interrupted; so far:")
        finally:
            os.chdir(home)
    _show_counts(name, options.seed, outcomes, time.monotonic() - started)
    return 1 if faults else 0


def _numbers(options: argparse.Namespace, started: float):
    """The numbers of attempts until the count or the time is reached."""
    count = options.count
    if count is None:
        count = 100 if options.seconds is None else sys.maxsize
    for number in range(options.first, options.first + count):
        if options.seconds is not None and time.monotonic() - started > options.seconds:
            return
        yield number


def _outcome(campaign: Campaign, seed: int, number: int) -> tuple[str, str | None]:
    """What an attempt came to, and what was wrong with it."""
    try:
        return campaign.attempt(np.random.default_rng([seed, number])), None
    except Fault as fault:
        return "FAULT", str(fault)
    except Exception:  # whatever fastnn raises that the attempt does not expect
        return "FAULT", traceback.format_exc()


def _show_fault(name: str, seed: int, number: int, fault: str, count: int) -> None:
    if count <= _MOST_FAULTS:
        again = f"python tools/campaign.py {name} --seed {seed} --first {number} --count 1"
        print(f"FAULT: {fault}\n  again: {again}", flush=True)


def _show_progress(outcomes: Counter, faults: int) -> None:
    """On a terminal, a line that is written over."""
    if sys.stderr.isatty():
        print(f"\r{outcomes.total():,} tried, {faults} faults", end="\r", file=sys.stderr)


def _show_counts(name: str, seed: int, outcomes: Counter, seconds: float) -> None:
    faults = outcomes.pop("FAULT", 0)
    print(f"{name}, seed {seed}: {outcomes.total() + faults:,} tried in {seconds:.0f} s")
    for outcome, count in outcomes.most_common():
        print(f"{count:10,}  {outcome}")
    print(f"{faults:10,}  faults", flush=True)
