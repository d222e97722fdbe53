"""The operator as a program: settings, log, and the exit status."""

from __future__ import annotations

import logging
import sys

from quarterdeck.errors import QuarterdeckError
from quarterdeck_operator.program import Operator
from quarterdeck_operator.settings import Settings


def main() -> int:
    """Run; the exit status: 0 in good order, 1 where it could not go on, 2 where a setting is wrong."""
    try:
        settings = Settings.from_environment()
    except QuarterdeckError as error:
        print(error, file=sys.stderr)
        return 2
    logging.basicConfig(
        level=settings.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # It tells every event and every request, also those that say nothing.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        return 0 if Operator(settings).run() else 1
    except QuarterdeckError as error:
        logging.getLogger(__name__).error("%s", error)
        return 1
