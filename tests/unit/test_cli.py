"""The command without a system: help, usage, errors, and how light it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from quarterdeck.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    NotReady,
    PackageRefused,
    QuarterdeckError,
    Unauthenticated,
)
from quarterdeck_cli import errors
from quarterdeck_cli.errors import NotStarted, StillRunning
from quarterdeck_cli.main import GROUPS, app, main

HEAVY = {"sklearn", "pandas", "pyarrow", "boto3", "sqlalchemy", "fastapi", "numpy", "lightgbm"}


def commands() -> list[list[str]]:
    """Every command, as its words."""
    single = [[command.name or str(getattr(command.callback, "__name__", ""))] for command in app.registered_commands]
    grouped = [
        [name, command.name or str(getattr(command.callback, "__name__", ""))]
        for name, group in GROUPS.items()
        for command in group.registered_commands
    ]
    return [*single, *grouped]


@pytest.mark.parametrize("words", [[], *commands()], ids=" ".join)
def test_every_help_opens_with_an_example(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What it does, then one line that can be copied, then the options."""
    assert main([*words, "--help"]) == 0
    said = capsys.readouterr().out
    example = said.index("Example: quarterdeck")
    assert example < said.index("Options:")
    assert " ".join(words) in said[example:]


def test_every_command_prints_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """All but those that print a file: a shell's script, YAML, and the lines of the audit log."""
    for words in commands():
        main([*words, "--help"])
        assert "--output" in capsys.readouterr().out or words in (["completion"], ["export"], ["audit", "export"])


def test_no_words_print_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever types the bare name wants to know what there is."""
    assert main([]) == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stats"], "Did you mean 'status', 'stage'?"),
        (["modle", "list"], "Did you mean 'model', 'node'?"),
        (["rollback", "late", "--resaon", "x"], "--reason"),
        (["challenger"], "Missing command"),
        (["apply"], "--file"),
        (["up", "--port", "many"], "--port"),
    ],
)
def test_misuse_is_told_on_stderr_with_status_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong, what may be meant, where to read on; nothing on stdout."""
    assert main(arguments) == errors.USAGE
    output = capsys.readouterr()
    assert output.out == ""
    first, last = output.err.splitlines()[0], output.err.splitlines()[-1]
    assert first.startswith("error: ")
    assert said in output.err
    assert last.startswith("hint: Run `quarterdeck")


def test_without_a_system_the_next_step_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback unless asked for."""
    monkeypatch.chdir(tmp_path)
    assert main(["status"]) == errors.FAILED
    assert capsys.readouterr().err == (
        f"error: No system runs in {tmp_path} or above.\n"
        "hint: Start one with `quarterdeck up`, or set QUARTERDECK_URL and QUARTERDECK_TOKEN.\n"
    )
    main(["status", "--debug"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (QuarterdeckError("x"), 1),
        (PackageRefused("x"), 1),
        (NotReady("x"), 1),
        (InvalidInput("x"), 2),
        (NotStarted("x"), 2),
        (NotFound("x"), 3),
        (Unauthenticated("x"), 4),
        (Forbidden("x"), 4),
        (Conflict("x"), 5),
        (StillRunning("x"), 6),
    ],
)
def test_exit_codes_tell_what_sort_of_error_it_was(error: QuarterdeckError, code: int) -> None:
    """As documented in docs/reference/cli.md."""
    assert errors.exit_code(error) == code


def test_an_error_says_what_which_request_and_what_next() -> None:
    """The hint is the last line."""
    error = NotFound("There is no such thing.", hint="Make one.", extra={"request_id": "r1"})
    assert errors.lines(error) == ["error: There is no such thing.", "request: r1", "hint: Make one."]


def test_it_starts_light() -> None:
    """Help needs none of the heavy libraries, so that it and completion answer at once."""
    code = "import sys, json; from quarterdeck_cli.main import main; main(['--help']); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    """Each shell's own."""
    done = subprocess.run(
        [sys.executable, "-m", "quarterdeck_cli", "completion", shell], capture_output=True, text=True, check=True
    )
    assert f"complete_{shell}" in done.stdout
