"""A made table of half a million rows: from the CSV file to the saved model, beside LightGBM.

    python benchmarks/large_table.py [--rows 500000] [--rounds 1] [--threads 2] [--json FILE]

The table has 18 numbers, a column of 300 names and one of 5, and two classes. The label is drawn
from the logistic function of a sum of smooth, stepped and crossed terms of the columns. A fifth of
the rows is a file of its own, on which both are scored. Each run has a process of its own; memory
is the largest resident set of it, which Linux tells.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import arguments
import numpy as np
import processes
import report

ROWS, NUMBERS, NAMES = 500_000, 18, (300, 5)
SEED = 0
TARGET = "label"


def make(rows: int) -> dict[str, np.ndarray]:
    """The columns by name."""
    rng = np.random.default_rng(SEED)
    X = rng.normal(size=(rows, NUMBERS))
    X[:, 3] = np.exp(X[:, 3])
    X[:, 4] = np.round(5 * X[:, 4])
    codes = [rng.integers(0, n, rows) for n in NAMES]
    effects = [rng.normal(size=n) for n in NAMES]
    z = 1.5 * X[:, 0] + np.sin(3 * X[:, 1]) + X[:, 2] * X[:, 5] - np.log(X[:, 3])
    z += 2.0 * (X[:, 6] > 0.5) + np.where(codes[1] == 0, 2 * X[:, 7], -X[:, 8])
    z += 1.5 * effects[0][codes[0]] + effects[1][codes[1]] + 0.1 * X[:, 4]
    label = rng.random(rows) < 1 / (1 + np.exp(-3 * z))
    columns = {f"x{k}": X[:, k] for k in range(NUMBERS)}
    columns |= {f"name{k}": np.char.add("n", c.astype(str)) for k, c in enumerate(codes)}
    return columns | {TARGET: np.where(label, "yes", "no")}


def write(folder: Path, rows: int) -> None:
    """Write the rows to train on and those to test on as CSV files."""
    import pandas as pd

    frame, cut = pd.DataFrame(make(rows)), int(0.8 * rows)
    frame.iloc[:cut].to_csv(folder / "train.csv", index=False, float_format="%.5g")
    frame.iloc[cut:].to_csv(folder / "test.csv", index=False, float_format="%.5g")


# --- contenders: from the file to the saved model, then the accuracy on the other file ------------


def fastnn(folder: Path, threads: int) -> float:
    """``fastnn train`` and ``fastnn evaluate``; returns when the model was saved."""
    from fastnn.cli import main

    model = str(folder / "model.fastnn")
    command = ["train", str(folder / "train.csv"), "--target", TARGET, "--all-rows", "--quiet"]
    _check(main([*command, "--threads", str(threads), "--out", model]))
    saved = time.perf_counter()
    figures = folder / "scores.json"
    _check(main(["evaluate", model, str(folder / "test.csv"), "--metrics", str(figures)]))
    return saved


def lightgbm(folder: Path, threads: int) -> float:
    """LightGBM's classifier in its defaults, on frames of pandas."""
    import joblib
    import pandas as pd
    from lightgbm import LGBMClassifier

    def read(name):
        frame = pd.read_csv(folder / name)
        return frame.astype({n: "category" for n in frame if n.startswith("name")})

    frame = read("train.csv")
    y = frame.pop(TARGET)
    model = LGBMClassifier(n_jobs=threads, random_state=0, verbose=-1).fit(frame, y)
    joblib.dump(model, folder / "model.joblib")
    saved = time.perf_counter()
    test = read("test.csv")
    t = test.pop(TARGET)
    for name in test:
        if name.startswith("name"):
            test[name] = test[name].cat.set_categories(frame[name].cat.categories)
    accuracy = float((model.predict(test) == t).mean())
    (folder / "scores.json").write_text(json.dumps({"accuracy": accuracy}))
    return saved


CONTENDERS = {"fastnn": fastnn, "lightgbm": lightgbm}


def _check(status: int) -> None:
    if status:
        raise SystemExit(status)  # the command has said why


def measure(contender: str, folder: Path, threads: int) -> dict[str, float]:
    """Seconds and memory until the model is saved, and the accuracy."""
    processes.confine(threads)
    started = time.perf_counter()
    seconds = CONTENDERS[contender](folder, threads) - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    scores = json.loads((folder / "scores.json").read_text())
    return {
        "seconds": seconds,
        "cpu_all": usage.ru_utime + usage.ru_stime,
        "memory_mb": _peak_memory(),
        "accuracy": scores["accuracy"],
    }


def _peak_memory() -> float:
    """The largest resident set of this process in MB; `getrusage` would tell the parent's, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024 / 1e6


def compare(options: argparse.Namespace) -> None:
    """Run the contenders in turn and show medians."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory(prefix="fastnn-large-") as folder:
        write(Path(folder), options.rows)
        for _ in range(options.rounds):
            for name in CONTENDERS:
                words = ["--measure", name, folder]
                runs[name].append(processes.run(__file__, words, options.threads))
    rows = [[name, *_medians(outcomes)] for name, outcomes in runs.items()]
    print(report.table(["", "seconds", "CPU s, scoring too", "MB", "accuracy"], rows))
    figures = {"date": options.date, "threads": options.threads, "rows": options.rows, "raw": runs}
    report.write(options.json, figures)


def _medians(outcomes: list[dict[str, Any]]) -> list[str]:
    failed = [run["error"] for run in outcomes if "error" in run]
    if failed:
        return [failed[0], "", "", ""]
    medians = {key: float(np.median([run[key] for run in outcomes])) for key in outcomes[0]}
    return [
        f"{medians['seconds']:.2f}",
        f"{medians['cpu_all']:.2f}",
        f"{medians['memory_mb']:.0f}",
        f"{medians['accuracy']:.4f}",
    ]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--date", default=arguments.today(), help="to enter into the file")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, folder = options.measure
        print(json.dumps(measure(name, Path(folder), options.threads)))
    else:
        compare(options)


if __name__ == "__main__":
    main()
