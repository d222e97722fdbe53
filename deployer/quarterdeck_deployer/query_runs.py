"""Test queries asked of several versions side by side: the answers, what was not as expected, and where versions differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from quarterdeck.errors import InvalidInput, ModelFailed
from quarterdeck.manifest import Trust
from quarterdeck.plan import VersionRef
from quarterdeck.records import Answer
from quarterdeck.schema import Frozen, Label, Name, Prediction
from quarterdeck.verify import differs
from quarterdeck_deployer import registry, test_queries
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.deployments import Deployments
from quarterdeck_deployer.gates.asking import ask
from quarterdeck_deployer.infrastructures.running import Infrastructures
from quarterdeck_deployer.revisions import RevisionView
from quarterdeck_deployer.test_queries import QueryView
from quarterdeck_deployer.trials import Trials

MAX_VERSIONS = 5


class RunInput(Frozen):
    """Which versions of main's model are asked what."""

    versions: Annotated[list[Annotated[int, Field(ge=1, le=2**31 - 1)]], Field(max_length=MAX_VERSIONS)] = Field(
        default_factory=list, description="Main's where none is named."
    )
    queries: list[Name] = Field(default_factory=list, description="Those to ask; all where none is named.")
    trust: Trust = Field("data", description="`code` allows versions to run code when loaded; main's own trust counts for main.")


class RowAnswer(Frozen):
    """What one version answers to one row."""

    version: int
    prediction: Label | None = Field(description="None where there is no answer.")
    scores: list[float]
    problem: str = Field(description="Why there is no answer, or why it is not the expected one; empty: it is fine.")
    differs: str = Field(description="How it differs from the first version's answer; empty: it does not.")


class RowRun(Frozen):
    """One row of a query."""

    row: int
    expected: Prediction | None
    answers: list[RowAnswer] = Field(description="In the order of the versions.")


class QueryRun(Frozen):
    """One query, asked of all versions."""

    query: Name
    rows: list[RowRun]


class RunView(Frozen):
    """All queries that were asked."""

    deployment: Name
    model: Name
    versions: list[int]
    failed: list[int] = Field(description="How many queries each version failed, in the order of the versions.")
    queries: list[QueryRun]


class QueryRuns:
    """Asks test queries; it takes as long as loading the versions takes, so call it from a thread."""

    def __init__(self, database: Database, deployments: Deployments, infrastructures: Infrastructures, trials: Trials) -> None:
        self._sessions, self._deployments, self._infrastructures = database.sessions, deployments, infrastructures
        self._trials = trials

    def run(self, name: str, wanted: RunInput) -> RunView:
        """Ask versions the queries of a deployment.

        Raises:
            NotFound: no such deployment or version.
            InvalidInput: a query that is named is not there.
            PackageRefused: a version cannot be loaded.
            StorageError: a store cannot be read.
        """
        wish = self._deployments.current(name)
        with self._sessions() as session:
            queries = _chosen(test_queries.of(session, name), wanted.queries, name)
            numbers = list(dict.fromkeys(wanted.versions or [wish.main.version]))
            refs = [registry.resolve(session, wish.main.model, number, _trust(wish, number, wanted))[0] for number in numbers]
        answers = [self._answers(wish, ref, queries) for ref in refs]
        runs = [_query_run(query, place, numbers, answers) for place, query in enumerate(queries)]
        failed = [sum(_fails(run, place) for run in runs) for place in range(len(numbers))]
        return RunView(deployment=name, model=wish.main.model, versions=numbers, failed=failed, queries=runs)

    def _answers(self, wish: RevisionView, ref: VersionRef, queries: Sequence[QueryView]) -> list[list[Answer | str]]:
        """What one version answers, query by query."""
        with self._trials.loaded(self._infrastructures.storage_with(wish.stage, ref), ref) as trial:
            try:
                return [ask(trial, query.rows) for query in queries]
            # The process is gone, and with it whatever else was to be asked.
            except ModelFailed as error:
                return [[error.detail] * len(query.rows) for query in queries]


def _trust(wish: RevisionView, number: int, wanted: RunInput) -> Trust:
    return "code" if wish.main.version == number and wish.main.trust == "code" else wanted.trust


def _chosen(queries: Sequence[QueryView], names: Sequence[str], deployment: str) -> list[QueryView]:
    missing = sorted(set(names) - {query.name for query in queries})
    if missing:
        raise InvalidInput(
            f"Deployment {deployment} has no test query of that name ({len(missing)} are not there).",
            kind="test-query",
            name=deployment,
            hint=f"List them: `quarterdeck scenario list {deployment}`.",
        )
    return [query for query in queries if not names or query.name in names]


def _query_run(query: QueryView, place: int, versions: Sequence[int], answers: Sequence[list[list[Answer | str]]]) -> QueryRun:
    rows = []
    for row in range(len(query.rows)):
        given = [one[place][row] for one in answers]
        expected = query.expect[row] if query.expect else None
        found = [
            _row_answer(version, answer, given[0], expected, query.tolerance)
            for version, answer in zip(versions, given, strict=True)
        ]
        rows.append(RowRun(row=row, expected=expected, answers=found))
    return QueryRun(query=query.name, rows=rows)


def _row_answer(
    version: int, answer: Answer | str, first: Answer | str, expected: Prediction | None, tolerance: float
) -> RowAnswer:
    if isinstance(answer, str):
        other = "" if answer == first else "no answer"
        return RowAnswer(version=version, prediction=None, scores=[], problem=answer, differs=other)
    problem = ""
    if expected is not None:
        problem = differs(Answer(expected.prediction, expected.scores or answer.scores), answer, tolerance)
    other = "no answer before" if isinstance(first, str) else differs(first, answer, tolerance)
    return RowAnswer(version=version, prediction=answer.prediction, scores=answer.scores, problem=problem, differs=other)


def _fails(run: QueryRun, version: int) -> bool:
    return any(row.answers[version].problem for row in run.rows)
