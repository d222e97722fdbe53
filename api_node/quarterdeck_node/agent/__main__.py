"""`python -m quarterdeck_node.agent`: the agent of one node, told everything by QUARTERDECK_ variables."""

import importlib
import signal
import sys


def main() -> None:
    """Run until SIGTERM, from the first moment on."""
    # The first process of a container takes no notice of a signal that it does not handle, and our imports take seconds.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    importlib.import_module("quarterdeck_node.agent.run").main()


if __name__ == "__main__":
    main()
