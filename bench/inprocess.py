"""The models without a server, in a process of its own on the server's core: the limits that no server can pass.

taskset -c 0 python -m bench.inprocess        # one line of JSON: seconds per call by what was called
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd

from bench import work
from bench.cells import Rules
from bench.places import ROOT, WORK
from bench.rows import Row
from bench.work import BATCH_ROWS

CALLS: dict[str, int] = {"pandas pipeline": 1, "pandas pipeline, batch": BATCH_ROWS, "LightGBM, batch": BATCH_ROWS}
"""What is called, and with how many rows."""
_SECONDS = 1.0
_RUNS = 5


def measure(repetition: int, rules: Rules) -> list[Row]:
    """A row per call.

    Raises:
        CalledProcessError: the process failed.
    """
    command = ["taskset", "-c", str(rules.cores.server), sys.executable, "-m", "bench.inprocess"]
    variables = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)]),
    }
    said = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(said)
    return [
        Row("in-process", name, CALLS[name], repetition, {"call_us": seconds * 1e6, "rows_per_s": CALLS[name] / seconds})
        for name, seconds in found.items()
    ]


def seconds_of(call: Callable[[], Any], seconds: float = _SECONDS) -> float:
    """Seconds per call: the median of five runs that take `seconds` together."""
    call()
    runs = []
    for _ in range(_RUNS):
        count, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds / _RUNS:
            call()
            count += 1
        runs.append(elapsed / count)
    return statistics.median(runs)


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    records = work.records()
    pipe = joblib.load(WORK / "pipe.joblib")
    encoded = np.ascontiguousarray(pipe[:-1].transform(pd.DataFrame(records)))
    trees = pipe[-1].booster_
    calls: dict[str, Callable[[], Any]] = {
        "pandas pipeline": lambda: pipe.predict_proba(pd.DataFrame(records[:1])),
        "pandas pipeline, batch": lambda: pipe.predict_proba(pd.DataFrame(records)),
        "LightGBM, batch": lambda: trees.predict(encoded, num_threads=1),
    }
    print(json.dumps({name: seconds_of(call) for name, call in calls.items()}))


if __name__ == "__main__":
    main()
