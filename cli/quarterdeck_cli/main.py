"""The `quarterdeck` command: puts the groups together, and turns every end into an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer
from typer._completion_classes import completion_init

from quarterdeck.errors import QuarterdeckError
from quarterdeck_cli import errors, output
from quarterdeck_cli.commands import (
    actions,
    answers,
    audit,
    backup,
    challenger,
    completion,
    deployments,
    infrastructures,
    keys,
    local,
    mlflow,
    models,
    nodes,
    packages,
    people,
    projects,
    promotions,
    scenarios,
    stages,
)

app = typer.Typer(name="quarterdeck", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
for single in (local, backup, deployments, promotions, answers, completion):
    app.registered_commands += single.app.registered_commands
app.registered_commands += people.tokens.registered_commands
packages.app.registered_commands += mlflow.app.registered_commands
GROUPS = {
    "package": packages.app,
    "model": models.app,
    "challenger": challenger.app,
    "infrastructure": infrastructures.app,
    "node": nodes.app,
    "keys": keys.app,
    "project": projects.app,
    "people": people.app,
    "issuer": people.issuer,
    "predictions": answers.predictions,
    "feedback": answers.feedback,
    "actions": actions.app,
    "audit": audit.app,
    "stage": stages.app,
    "promotion": promotions.promotion,
    "scenario": scenarios.app,
}
for title, group in GROUPS.items():
    app.add_typer(group, name=title)

# The completion scripts come by `completion`, so the options that would install them are not added; their classes are needed.
completion_init()
_DEBUG, _QUIET = ("--debug",), ("-q", "--quiet")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
    debug: Annotated[bool, typer.Option(*_DEBUG, help="Show the traceback of an error; may stand anywhere.")] = False,
    quiet: Annotated[bool, typer.Option(*_QUIET, help="Print nothing but data and errors; may stand anywhere.")] = False,
) -> None:
    """Serve models with a challenger beside them, on a laptop or in a cluster.

    Example: quarterdeck up

    Exit status: 0 done or already so, 1 failed, 2 wrong usage, 3 not found, 4 not allowed, 5 conflict, 6 still going on,
    130 interrupted.
    """
    if show_version:
        print(f"quarterdeck {_version()}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    # People add these after a failure, at the end of the line that failed; so they may stand anywhere.
    known, debug = _without(arguments, _DEBUG)
    known, output.err.quiet = _without(known, _QUIET)
    try:
        outcome = app(args=known, prog_name="quarterdeck", standalone_mode=False)
        # Here and not at the interpreter's end, so that a closed pipe is met while it can be handled.
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else errors.DONE
    except typer.TyperException as error:
        return _ended(errors.USAGE, [f"error: {error.format_message()}", f"hint: {_help(error)}"], debug)
    except typer.Abort:
        return _ended(errors.INTERRUPTED, ["error: interrupted"], debug)
    except QuarterdeckError as error:
        return _ended(errors.exit_code(error), errors.lines(error), debug)
    except BrokenPipeError:
        return _seen_enough()
    except SystemExit as ended:
        # The libraries below end the program with 1 for a closed pipe; for `quarterdeck get | head -1` that is no failure.
        if isinstance(ended.__context__, BrokenPipeError):
            return _seen_enough()
        raise
    except OSError as error:
        # A full disk or a folder of somebody else is no bug of ours, and the traceback would help nobody.
        refused = errors.of_the_system(error)
        return _ended(errors.exit_code(refused), errors.lines(refused), debug)
    except Exception as error:
        said = f"error: {type(error).__name__}: {error}"
        return _ended(
            errors.FAILED,
            [said, "hint: This is a bug in Quarterdeck; run it again with --debug and report what it prints."],
            debug,
        )


def run() -> None:
    """Entry point of the installed command."""
    sys.exit(main(sys.argv[1:]))


def _seen_enough() -> int:
    """The end of whoever's reader has gone."""
    # The interpreter must not try to flush it again.
    sys.stdout = None
    return errors.DONE


def _without(arguments: Sequence[str], flags: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments before `--` without these flags, and whether one of them was there."""
    front = list(arguments[: arguments.index("--")]) if "--" in arguments else list(arguments)
    kept = [each for each in front if each not in flags]
    return [*kept, *arguments[len(front) :]], len(kept) < len(front)


def _ended(code: int, lines: Sequence[str], debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print("\n".join(lines), file=sys.stderr)
    return code


def _help(error: typer.TyperException) -> str:
    """Where to read on: the help of the deepest command that was named rightly."""
    # Errors of usage carry the context in which parsing stopped; others have none.
    context = getattr(error, "ctx", None)
    return f"Run `{context.command_path if context else 'quarterdeck'} --help`."


def _version() -> str:
    try:
        return version("quarterdeck")
    except PackageNotFoundError:
        return "from a checkout"
