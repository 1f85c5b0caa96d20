"""Try for hours what should do fastnn no harm: kills, damage, odd tables, extreme numbers.

::

    python tools/campaign.py kill --count 1000
    python tools/campaign.py damage --seconds 3600 --seed 7

Each attempt is drawn from ``--seed`` and its number, so a fault is repeated by ``--first``:

    python tools/campaign.py tables --seed 7 --first 4711 --count 1

Attempts are counted by their outcomes. The exit status is 1 where there was a fault, with the seed
and the number of each. Ctrl-C ends a campaign with the counts so far. ``docs/reliability.md`` says
what each one shows.
"""

import argparse
import importlib
import importlib.util
import os
import sys

CAMPAIGNS = {
    "kill": "kill writers at random moments: the old file or the new one is there, whole",
    "damage": "change bytes of model files: a ModelFileError within a second and 200 MB",
    "tables": "train, evaluate and predict on odd tables: a result, or one line that says why not",
    "numbers": "train on extreme numbers: finite parameters, or an error",
    "threads": "first uses in many threads, forks while kernels load, predictions beside training",
    "signals": "Ctrl-C and SIGTERM at random moments: what was learnt is saved",
}


def command_line() -> argparse.ArgumentParser:
    """The campaigns and their options."""
    parser = argparse.ArgumentParser(
        prog="campaign.py", description=(__doc__ or "").partition("\n")[0]
    )
    commands = parser.add_subparsers(dest="campaign", required=True)
    for name, what in CAMPAIGNS.items():
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("--count", type=int, metavar="N", help="attempts; 100 by default")
        command.add_argument(
            "--seconds", type=float, metavar="S", help="start none after this time"
        )
        command.add_argument("--seed", type=int, default=0, metavar="K")
        command.add_argument(
            "--first", type=int, default=0, metavar="N", help="the number of the first attempt"
        )
    return parser


def main() -> int:
    """Run a campaign and return the exit status."""
    parser = command_line()
    options = parser.parse_args()
    if importlib.util.find_spec("fastnn") is None:
        parser.error("there is no fastnn to import; put its folder into PYTHONPATH")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy loads: a fork takes no threads along
    from campaigns.running import run

    campaign = importlib.import_module(f"campaigns.{options.campaign}").Campaign
    return run(options.campaign, campaign, options)


if __name__ == "__main__":
    sys.exit(main())
