"""The environment of a process that a package is loaded in: ours, without what belongs to our programs alone."""

from __future__ import annotations

import os
from collections.abc import Iterable

_OURS = ("AWS_", "QUARTERDECK_", "PGPASS")
_THREADS = (
    "OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)  # fmt: skip
"""What numerical libraries and joblib are told their threads by; the limit also binds a model that was saved with `n_jobs`."""


def model_environ(needed: Iterable[str], threads: int = 1) -> dict[str, str]:
    """The variables for such a process.

    A package that may run code need not see the store's keys or the database's, neither when it is tried nor when it serves.
    What the package itself asks for, `needed`, is left in.

    Args:
        needed: names of variables that the package asks for.
        threads: that numerical libraries may use for one batch, 0: as many as they find processors; a variable that is set
            for this program says otherwise, and stays.
    """
    asked = set(needed)
    # A few rows are too little to share out: threads would wait for each other, busily, and take the core from serve.
    told = {name: str(threads) for name in _THREADS if threads}
    return told | {name: value for name, value in os.environ.items() if name in asked or not name.startswith(_OURS)}
