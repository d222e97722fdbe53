"""The process that `beside.run` starts: `python -m quarterdeck.mlflow_models.child FOLDER SCRATCH`, what is wanted on stdin."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from quarterdeck import lifeline
from quarterdeck.errors import QuarterdeckError
from quarterdeck.mlflow_models import beside
from quarterdeck.mlflow_models.importing import Wanted, import_mlflow


def main() -> None:
    """Build what is wanted, or write down why not."""
    folder, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    lifeline.die_with_parent(int(os.environ[beside.PARENT]))
    try:
        built = import_mlflow(folder, Wanted.model_validate_json(sys.stdin.buffer.read()))
        whole = scratch / "whole"
        built.write(whole)
        # Under its name only when it is complete.
        whole.rename(scratch / beside.PACKAGE)
    except QuarterdeckError as error:
        told = {member: getattr(error, member) for member in ("detail", "code", "hint", "kind", "name", "extra")}
        (scratch / beside.PROBLEM).write_text(json.dumps({"class": type(error).__name__, **told}))
    # Whatever threads or exit handlers the model left behind have no say any more.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
