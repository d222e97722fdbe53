"""Exit codes, and what the command says when something goes wrong: `error: what`, then `hint: next step`, on stderr."""

from __future__ import annotations

from quarterdeck.errors import Conflict, Forbidden, InvalidInput, NotFound, QuarterdeckError, Unauthenticated

DONE, FAILED, USAGE, MISSING, DENIED, CONFLICT, TIMED_OUT, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130
"""Exit codes; 7 (a gate says no) and 8 (not known yet) belong to commands that come with the verdict."""


class NotStarted(QuarterdeckError):
    """The local system was not started, and nothing of it is left behind."""

    status = 409
    default_code = "not-started"


class StillRunning(QuarterdeckError):
    """Waiting ended before the work did; the work goes on."""

    status = 504
    default_code = "still-running"


# Searched in order; what has no row is a plain failure. Scripts rely on these numbers, so none is ever given another meaning.
_EXITS: tuple[tuple[type[QuarterdeckError], int], ...] = (
    (NotStarted, USAGE),
    (StillRunning, TIMED_OUT),
    (InvalidInput, USAGE),
    (NotFound, MISSING),
    (Unauthenticated, DENIED),
    (Forbidden, DENIED),
    (Conflict, CONFLICT),
)


def of_the_system(error: OSError) -> QuarterdeckError:
    """What the operating system refused, in words: a path where there is one, and why."""
    what = error.strerror or type(error).__name__
    return QuarterdeckError(
        f"{error.filename}: {what}." if error.filename else f"{what}.",
        code="refused-by-system",
        hint="Check the path, the rights on it and the space that is left.",
    )


def exit_code(error: QuarterdeckError) -> int:
    """The exit code that tells scripts what sort of error it was."""
    return next((code for kind, code in _EXITS if isinstance(error, kind)), FAILED)


def lines(error: QuarterdeckError) -> list[str]:
    """What stderr shows: what is wrong with which thing, the request's id where a server named one, the next step last."""
    said = [f"error: {error.detail}"]
    if request := error.extra.get("request_id"):
        said.append(f"request: {request}")
    if error.hint:
        said.append(f"hint: {error.hint}")
    return said
