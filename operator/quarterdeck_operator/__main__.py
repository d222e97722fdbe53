"""`python -m quarterdeck_operator`: the operator, until it is told to end."""

import importlib
import signal
import sys


def main() -> int:
    """Run until SIGTERM, from the first moment on; the exit status."""
    # The first process of a container takes no notice of a signal that it does not handle, and until kopf listens, seconds pass.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    status: int = importlib.import_module("quarterdeck_operator.run").main()
    return status


if __name__ == "__main__":
    sys.exit(main())
