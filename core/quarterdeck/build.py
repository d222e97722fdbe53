"""From a fitted model and its data to a package: described, proven equal to the original, the same bytes every time."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import ValidationError

from quarterdeck import environment, package_files
from quarterdeck.baseline import BASELINE_FILE, baseline
from quarterdeck.build_data import Data, labelled, model_file, parquet, summary, table
from quarterdeck.build_forms import FormChoice, compiled, libraries, stored
from quarterdeck.build_proof import Original, original, prove
from quarterdeck.compiling.draft import NotCompilable
from quarterdeck.errors import InvalidInput, ModelFailed, PackageRefused
from quarterdeck.evaluate import measure
from quarterdeck.frames import rows_of
from quarterdeck.infer import features_of, is_booster, schema_of
from quarterdeck.manifest import FileEntry, Form, GoldenRow, Manifest, Scenario, Trust
from quarterdeck.plan import VersionRef
from quarterdeck.schema import Feature, Label, Prediction, Schema
from quarterdeck.sources import SOURCE_FILE, hyperparameters, plain, source_text
from quarterdeck.storage import Storage

_GRAPH_ROWS = 1_000


@dataclass(frozen=True)
class BuiltPackage:
    """A package in memory: the manifest, and the files by their path in the package."""

    manifest: Manifest
    files: Mapping[str, bytes] = field(repr=False)

    def write(self, folder: Path | str) -> Path:
        """Write the package as a folder, the manifest last; `Conflict` where the folder holds something else."""
        return package_files.write(self.manifest, self.files, Path(folder))

    def push(self, storage: Storage, version: int | None = None) -> VersionRef:
        """Publish it: the next free version number, or `version`; see `quarterdeck.package_files.push`."""
        with tempfile.TemporaryDirectory() as folder:
            return package_files.push(self.write(Path(folder) / "package"), storage, version)


@dataclass(frozen=True)
class _Given:
    """The model and its data; `judged` is the validation data where there is some, else the training data."""

    model: Any
    training: Data
    judged: Data
    container: Literal["frame", "array"]


@dataclass(frozen=True)
class _Extras:
    metrics: Mapping[str, float]
    variables: Collection[str]
    include_data: bool
    accelerated: bool


def package(
    model: Any,
    X: Any,
    y: Any,
    *,
    name: str,
    description: str = "",
    target: str = "",
    form: FormChoice = "auto",
    trust: Trust | None = None,
    validation: tuple[Any, Any] | None = None,
    classes: Sequence[Label] | None = None,
    positive: Label | None = None,
    nullable: Collection[str] = (),
    feature_descriptions: Mapping[str, str] | None = None,
    scenarios: Sequence[Scenario | Mapping[str, Any]] = (),
    metrics: Mapping[str, float] | None = None,
    search_space: Mapping[str, Any] | None = None,
    variables: Collection[str] = (),
    card: str = "",
    run: str = "",
    parent: str | None = None,
    commit: str = "",
    recipe: str | None = None,
    producer: str = "",
    source: str = "",
    include_data: bool = False,
    accelerated: bool = False,
) -> BuiltPackage:
    """Make a package of a fitted model, and prove that what will be served answers as the model does.

    Args:
        model: a fitted scikit-learn or LightGBM estimator, a Pipeline, or a LightGBM Booster.
        X: training rows, a DataFrame or an array: names, types, categories and ranges of the features are read off it.
        y: training target, one value per row. None: `X` holds a few examples only, from which neither metrics nor a baseline nor
            ranges can be taken.
        name: the model's name: lower-case letters, digits and dashes.
        description: one sentence for lists.
        target: name of the predicted column; the name of `y` where it has one.
        form: how to store it; ``auto`` compiles the model where that is possible and proven equal, else takes skops.
        trust: ``code`` to store as joblib what skops does not know: loading that runs code.
        validation: ``(X, y)`` that the model has not seen: metrics, drift baseline, golden rows and proof come from it.
        classes: labels in the order of the scores, for a Booster of a classifier.
        positive: the class that a binary score speaks of; the second one otherwise.
        nullable: columns that take null although the data has none.
        feature_descriptions: words by column name.
        scenarios: named tests, run by `quarterdeck package test`.
        metrics: further figures by name, e.g. of a cross-validation.
        search_space: the hyperparameters' ranges that were searched.
        variables: names of environment variables that the model needs when it predicts.
        card: model card, Markdown.
        run: the training run's name.
        parent: digest of the version that this one was made from.
        commit: commit of the code that trained it.
        recipe: what trained it from the data: a program or a recipe, by name or digest.
        producer: who or what built it.
        source: where the data comes from.
        include_data: keep the rows themselves, as Parquet; otherwise their digest and shape.
        accelerated: add a graph that a GPU can score by, proven to 1e-5; needs ONNX and ONNX Runtime.

    Raises:
        InvalidInput: the data, the model or an argument does not fit, or `form` is ``compiled`` and the model has no such form;
            names the column, class or argument.
        PackageRefused: ``untrusted-types``: skops does not know a part of the model, and `trust` is not ``code``;
            ``load-failed`` or ``golden-mismatch``: the served form does not answer as the original does.
    """
    given = _given(model, X, y, validation)
    schema = _schema(
        given, target or str(getattr(y, "name", None) or "target"), classes, positive, nullable, feature_descriptions
    )
    words = {
        "model": name,
        "description": description,
        "card": card,
        "run": run,
        "parent": parent,
        "commit": commit,
        "recipe": recipe,
        "producer": producer,
        "scenarios": [dict(scenario) for scenario in scenarios],
        "search_space": plain(dict(search_space or {})),
        "training": summary(given.training, source) if given.training.labels else None,
        "validation": summary(given.judged, source) if validation else None,
    }
    asked = original(model, schema, given.training, given.judged, given.container)
    extras = _Extras(metrics or {}, variables, include_data, accelerated)
    reason = ""
    if form in ("auto", "compiled"):
        found, reason = _compiled(given, asked, words, extras)
        if found is not None:
            return found
        if form == "compiled":
            hint = "Leave `form` out: the model is then stored as it is, and served in a process of its own."
            raise InvalidInput(f"The model cannot be compiled: {reason}.", kind="model", name=type(model).__name__, hint=hint)
    kept, files = stored(model, form, trust, asked.served)
    return _built(given, asked, kept, files, {**words, "fallback": reason}, extras)


def from_files(
    model_path: Path | str, data_path: Path | str, target: str, *, validation_path: Path | str | None = None, **named: Any
) -> BuiltPackage:
    """A package of a model and data that lie in files, with the further arguments of `package`.

    Args:
        model_path: joblib or pickle file of a fitted model, or a LightGBM text model (``.txt``). Loading it runs its code: it is
            the reader's own.
        data_path: ``.parquet`` or ``.csv`` with the features and the target.
        target: the target's column.
        validation_path: further rows that the model has not seen.

    Raises:
        InvalidInput: a file cannot be read, or has no such column; and whatever `package` raises.
    """
    model = model_file(Path(model_path))
    rows, labels = table(Path(data_path), target, model)
    if validation_path is not None:
        named["validation"] = table(Path(validation_path), target, model)
    named.setdefault("source", Path(data_path).name)
    return package(model, rows, labels, **named)


def _given(model: Any, X: Any, y: Any, validation: tuple[Any, Any] | None) -> _Given:
    names = model.feature_name() if is_booster(model) else ()
    training = labelled("training", X, y, names)
    judged = labelled("validation", *validation, names) if validation else training
    if list(judged.frame.columns) != list(training.frame.columns):
        hint = "Give both the same columns in the same order."
        raise InvalidInput("Validation and training data have different columns.", kind="data", name="validation", hint=hint)
    return _Given(model, training, judged, "frame" if isinstance(X, pd.DataFrame) else "array")


def _schema(
    given: _Given,
    target: str,
    classes: Sequence[Label] | None,
    positive: Label | None,
    nullable: Collection[str],
    descriptions: Mapping[str, str] | None,
) -> Schema:
    if classes is not None and not is_booster(given.model):
        raise InvalidInput("A fitted estimator knows its own classes.", kind="model", name="classes", hint="Leave `classes` out.")
    # Validation data may miss what training data always had: then null is a legal value too.
    missing = given.judged.frame.isna().any()
    features = features_of(given.training.frame, {*nullable, *missing.index[missing]}, descriptions or {})
    if given.training.labels is None:
        features = [_as_example(feature, given.training.frame[feature.name]) for feature in features]
    return schema_of(given.model, target, features, classes, positive)


def _as_example(feature: Feature, series: Any) -> Feature:
    # What a handful of rows happens to hold says nothing of the training data; a category column's own list does.
    kept = feature.categories if isinstance(series.dtype, pd.CategoricalDtype) else None
    return feature.model_copy(update={"minimum": None, "maximum": None, "categories": kept})


def _compiled(given: _Given, asked: Original, words: dict[str, Any], extras: _Extras) -> tuple[BuiltPackage | None, str]:
    """The compiled package, or None and the reason why there is none."""
    try:
        files = compiled(given.model, asked.schema, asked.served)
        return _built(given, asked, "compiled", files, words, extras), ""
    except NotCompilable as error:
        return None, str(error)
    # A proof that fails speaks of this form, not of the model.
    except (PackageRefused, ModelFailed) as error:
        return None, error.detail.rstrip(".")


def _entries(files: Mapping[str, bytes]) -> list[FileEntry]:
    return [FileEntry(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in sorted(files.items())]


def _built(
    given: _Given, asked: Original, form: Form, files: dict[str, bytes], words: dict[str, Any], extras: _Extras
) -> BuiltPackage:
    """The package of one form, proven; raises `PackageRefused` or `ModelFailed` where it does not answer as the original."""
    model, judged, schema = given.model, given.judged, asked.schema
    needed = libraries(model, form, files)
    files[SOURCE_FILE] = source_text(model).encode()
    measured: dict[str, float] = {}
    if judged.labels is not None:
        files[BASELINE_FILE] = baseline(schema, rows_of(judged.frame), asked.judged, judged.kind)
        measured = {f"{judged.kind}_{key}": value for key, value in measure(schema, judged.labels, asked.judged).items()}
    if extras.include_data:
        files.update(parquet(given.training, schema.target) | parquet(judged, schema.target))
    draft = _draft(
        {
            **words,
            "form": form,
            # What loading does decides, not what was permitted: a model that skops knows stays data under trust="code".
            "trust": "code" if form == "joblib" else "data",
            "schema": schema,
            "files": _entries(files),
            "environment": environment.current(needed, extras.variables),
            "metrics": {**measured, **extras.metrics},
            "hyperparameters": hyperparameters(model),
        }
    )
    proof, golden = prove(draft, files, asked, judged)
    proven = draft.model_copy(update={"golden": golden, "proof": proof})
    return _with_graph(proven, files, judged) if extras.accelerated else BuiltPackage(proven, files)


def _with_graph(manifest: Manifest, files: dict[str, bytes], judged: Data) -> BuiltPackage:
    # ONNX comes with an extra of its own, which only those install who build for GPUs.
    from quarterdeck.accelerated.build import accelerate

    return BuiltPackage(*accelerate(manifest, files, rows_of(judged.part(_GRAPH_ROWS))))


def _draft(document: dict[str, Any]) -> Manifest:
    """The manifest as far as it is known before the files are loaded back; `InvalidInput` names what does not fit."""
    # The served form needs a manifest to be loaded by, and only the served form can answer golden rows.
    placeholder = GoldenRow(row={}, expected=Prediction(prediction=0))
    try:
        draft = Manifest.model_validate({**document, "golden": [placeholder]})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        hint = f"Change what is given as `{place}`."
        raise InvalidInput(f"{place}: {first['msg']}.", kind="argument", name=place, hint=hint) from None
    try:
        draft.canonical()
    except ValueError:
        hint = "Leave out what could not be measured; write null in a scenario's row."
        raise InvalidInput(
            "Metrics and scenarios hold finite numbers only.", kind="argument", name="metrics", hint=hint
        ) from None
    return draft
