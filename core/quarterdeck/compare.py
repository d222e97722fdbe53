"""What differs between two versions, member by member: a pure function of their manifests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from quarterdeck.manifest import Manifest
from quarterdeck.records import Answer
from quarterdeck.schema import Frozen
from quarterdeck.verify import differs


class Side(Frozen):
    """One of the two versions."""

    digest: str
    form: str
    trust: str
    training_rows: int | None
    training_digest: str | None
    golden_rows: int
    size_bytes: int


class Difference(Frozen):
    """One member that is not the same; None where a side has none."""

    name: str
    a: Any
    b: Any
    change: float | None = Field(None, description="b - a, where both are numbers.")


class Comparison(Frozen):
    """Two versions side by side. Lists hold what differs, by name; `same` counts the members that do not."""

    a: Side
    b: Side
    package: list[Difference] = Field(description="Form, trust, task, training data, run, commit, recipe, producer.")
    features: list[Difference] = Field(description="Features by name; a and b hold type and whether null is legal.")
    hyperparameters: list[Difference]
    metrics: list[Difference] = Field(description="All metrics that either has, equal ones too.")
    environment: list[Difference]
    files: list[Difference] = Field(description="Sizes in bytes of files that differ; equal sizes may hide other bytes.")
    golden: list[Difference] = Field(description="Rows that both have with different answers, by their place in a.")
    same: dict[str, int] = Field(description="Section → members that both have alike.")


def compare(a: Manifest, b: Manifest) -> Comparison:
    """What differs from `a` to `b`.

    Two manifests of one model are meant; of two models it works as well.
    """
    sections = {
        "package": _apart(_package(a), _package(b)),
        "features": _apart(_features(a), _features(b)),
        "hyperparameters": _apart(a.hyperparameters, b.hyperparameters),
        "environment": _apart(_environment(a), _environment(b)),
    }
    files, same_files = _files(a, b)
    golden, same_golden = _golden(a, b)
    return Comparison(
        a=_side(a),
        b=_side(b),
        **{name: apart for name, (apart, _) in sections.items()},
        metrics=[_difference(name, a.metrics.get(name), b.metrics.get(name)) for name in sorted({*a.metrics, *b.metrics})],
        files=files,
        golden=golden,
        same={**{name: count for name, (_, count) in sections.items()}, "files": same_files, "golden": same_golden},
    )


def _side(manifest: Manifest) -> Side:
    training = manifest.training
    return Side(
        digest=manifest.digest,
        form=manifest.form,
        trust=manifest.trust,
        training_rows=training.rows if training else None,
        training_digest=training.digest if training else None,
        golden_rows=len(manifest.golden),
        size_bytes=manifest.size,
    )


def _package(manifest: Manifest) -> dict[str, Any]:
    schema, training, validation = manifest.data_schema, manifest.training, manifest.validation
    return {
        "form": manifest.form,
        "trust": manifest.trust,
        "task": schema.task,
        "target": schema.target,
        "classes": schema.classes,
        "positive": schema.positive,
        "training data": training.digest if training else None,
        "training rows": training.rows if training else None,
        "validation data": validation.digest if validation else None,
        "run": manifest.run,
        "commit": manifest.commit,
        "recipe": manifest.recipe,
        "producer": manifest.producer,
    }


def _features(manifest: Manifest) -> dict[str, Any]:
    return {
        feature.name: {"type": feature.type, "nullable": feature.nullable, "categories": feature.categories}
        for feature in manifest.data_schema.features
    }


def _environment(manifest: Manifest) -> dict[str, Any]:
    variables = dict.fromkeys(manifest.environment.variables, "needed")
    return {"python": manifest.environment.python, **manifest.environment.libraries, **variables}


def _apart(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[list[Difference], int]:
    """What differs, and how many members do not."""
    names = sorted({*a, *b})
    apart = [_difference(name, a.get(name), b.get(name)) for name in names if not _alike(name, a, b)]
    return apart, len(names) - len(apart)


def _alike(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    # By type as well: 1, 1.0 and true are equal to Python, and three different settings to a library.
    return name in a and name in b and a[name] == b[name] and type(a[name]) is type(b[name])


def _difference(name: str, a: Any, b: Any) -> Difference:
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (a, b))
    return Difference(name=name, a=a, b=b, change=b - a if numbers else None)


def _files(a: Manifest, b: Manifest) -> tuple[list[Difference], int]:
    ours, theirs = ({entry.path: entry for entry in manifest.files} for manifest in (a, b))
    paths = sorted({*ours, *theirs})
    apart = [path for path in paths if ours.get(path) != theirs.get(path)]
    sizes = ({path: entry.size for path, entry in entries.items()} for entries in (ours, theirs))
    before, after = sizes
    return [_difference(path, before.get(path), after.get(path)) for path in apart], len(paths) - len(apart)


def _golden(a: Manifest, b: Manifest) -> tuple[list[Difference], int]:
    """Rows that both have: other answers, and how many answers are the same within the wider tolerance."""
    answers = {_key(golden.row): golden.expected for golden in b.golden}
    tolerance = max(a.golden_tolerance, b.golden_tolerance)
    apart, same = [], 0
    for place, golden in enumerate(a.golden):
        theirs = answers.get(_key(golden.row))
        if theirs is None:
            continue
        ours = golden.expected
        # Scores of other classes cannot be held against each other; the label can.
        comparable = len(ours.scores) == len(theirs.scores)
        before, after = (Answer(one.prediction, one.scores if comparable else []) for one in (ours, theirs))
        if differs(before, after, tolerance):
            apart.append(Difference(name=f"row {place}", a=ours.model_dump(), b=theirs.model_dump()))
        else:
            same += 1
    return apart, same


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    # Types too, for the reason above.
    return tuple((name, type(value).__name__, value) for name, value in sorted(row.items()))
