"""From a fitted model and its data to a package: described, proven equal to the original, the same bytes every time."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, cast

import joblib
import numpy as np
import pandas as pd
from pydantic import ValidationError

from quarterdeck import environment, forms, package_files
from quarterdeck.baseline import BASELINE_FILE, baseline
from quarterdeck.errors import InvalidInput, PackageRefused
from quarterdeck.evaluate import compare, measure
from quarterdeck.forms import lightgbm_text, python_forms, skops_zip
from quarterdeck.frames import COLUMNS_FILE, Columns, columns_of, rows_of
from quarterdeck.golden import golden_rows, spread
from quarterdeck.infer import features_of, frame_from, is_booster, is_lightgbm, labels_of, schema_of
from quarterdeck.manifest import DataSummary, FileEntry, Form, GoldenRow, Manifest, Scenario, Trust
from quarterdeck.plan import VersionRef
from quarterdeck.records import Answer
from quarterdeck.schema import Label, Prediction, Schema
from quarterdeck.sources import SOURCE_FILE, hyperparameters, modules_of, plain, source_text
from quarterdeck.storage import Storage

TOLERANCE = 1e-9
# Beyond this many rows more of them find nothing new, and rows take longer to convert than to predict.
_PROOF_ROWS = 10_000
# What a model of each form is read and run by; whatever else its estimators come from is added.
_LIBRARIES: dict[Form, tuple[str, ...]] = {
    "lightgbm-text": ("lightgbm",),
    "skops": ("numpy", "pandas", "scikit-learn", "scipy", "skops"),
    "joblib": ("joblib", "numpy", "pandas", "scikit-learn", "scipy"),
}
_PROVIDERS = {"lightgbm": "lightgbm", "numpy": "numpy", "pandas": "pandas", "scipy": "scipy", "sklearn": "scikit-learn"}
FormChoice = Literal["auto", "lightgbm-text", "skops", "joblib"]


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
class _Data:
    """Rows with their target, and which data it is."""

    kind: Literal["training", "validation"]
    frame: pd.DataFrame
    labels: list[Label]

    def part(self, rows: int) -> pd.DataFrame:
        """At most `rows` rows, evenly spread."""
        return self.frame.iloc[spread(len(self.frame), rows)]


@dataclass(frozen=True)
class _Given:
    """The model and its data; `judged` is the validation data where there is some, else the training data."""

    model: Any
    training: _Data
    judged: _Data
    container: Literal["frame", "array"]


@dataclass(frozen=True)
class _Extras:
    metrics: Mapping[str, float]
    variables: Collection[str]
    include_data: bool


@dataclass(frozen=True)
class _Original:
    """The fitted model as it was given, behind the interface that classifiers and regressors share.

    `columns` is how it is asked here, `served` how nodes will ask it, `judged` what it answered to the data it is judged by.
    """

    estimator: Any
    schema: Schema
    columns: Columns
    served: Columns
    judged: list[Answer]

    def answers(self, frame: pd.DataFrame) -> list[Answer]:
        return python_forms.answers(self.schema, self.columns, self.estimator, frame)


class _BoosterEstimator:
    """A bare Booster with the methods of an estimator."""

    def __init__(self, booster: Any, schema: Schema) -> None:
        self._booster = booster
        self._schema = schema

    def predict_proba(self, frame: Any) -> Any:
        found = np.asarray(self._booster.predict(frame))
        return np.column_stack([1.0 - found, found]) if found.ndim == 1 else found

    def predict(self, frame: Any) -> Any:
        if self._schema.task == "regression":
            return self._booster.predict(frame)
        return np.array(self._schema.classes, dtype=object)[self.predict_proba(frame).argmax(axis=1)]


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
    producer: str = "",
    source: str = "",
    include_data: bool = False,
) -> BuiltPackage:
    """Make a package of a fitted model, and prove that what will be served answers as the model does.

    Args:
        model: a fitted scikit-learn or LightGBM estimator, a Pipeline, or a LightGBM Booster.
        X: training rows, a DataFrame or an array: names, types, categories and ranges of the features are read off it.
        y: training target, one value per row.
        name: the model's name: lower-case letters, digits and dashes.
        description: one sentence for lists.
        target: name of the predicted column; the name of `y` where it has one.
        form: how to store it; ``auto`` takes LightGBM text where it can, else skops.
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
        producer: who or what built it.
        source: where the data comes from.
        include_data: keep the rows themselves, as Parquet; otherwise their digest and shape.

    Raises:
        InvalidInput: the data, the model or an argument does not fit; names the column or argument.
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
        "producer": producer,
        "scenarios": [dict(scenario) for scenario in scenarios],
        "search_space": plain(dict(search_space or {})),
        "training": _summary(given.training, source),
        "validation": _summary(given.judged, source) if validation else None,
    }
    original = _original(given, schema)
    stored = _stored(model, form, trust)
    return _built(given, original, stored, words, _Extras(metrics or {}, variables, include_data))


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
    model = _model_file(Path(model_path))
    rows, labels = _table(Path(data_path), target, model)
    if validation_path is not None:
        named["validation"] = _table(Path(validation_path), target, model)
    named.setdefault("source", Path(data_path).name)
    return package(model, rows, labels, **named)


def _given(model: Any, X: Any, y: Any, validation: tuple[Any, Any] | None) -> _Given:
    names = model.feature_name() if is_booster(model) else ()
    training = _data("training", X, y, names)
    judged = _data("validation", *validation, names) if validation else training
    if list(judged.frame.columns) != list(training.frame.columns):
        hint = "Give both the same columns in the same order."
        raise InvalidInput("Validation and training data have different columns.", kind="data", name="validation", hint=hint)
    return _Given(model, training, judged, "frame" if isinstance(X, pd.DataFrame) else "array")


def _data(kind: Literal["training", "validation"], X: Any, y: Any, names: Sequence[str]) -> _Data:
    frame, labels = frame_from(X, names), labels_of(y)
    if len(frame) != len(labels):
        detail = f"The {kind} data has {len(frame)} rows and {len(labels)} targets."
        raise InvalidInput(detail, kind="data", name="y", hint="Give one target for each row.")
    return _Data(kind, frame, labels)


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
    return schema_of(given.model, target, features, classes, positive)


def _original(given: _Given, schema: Schema) -> _Original:
    """The model behind one interface. Where its labels follow from the scores, serving asks it once, not twice."""
    # The original is always asked for its own labels: the proof must not rest on a short cut of ours.
    estimator = _BoosterEstimator(given.model, schema) if is_booster(given.model) else given.model
    columns = Columns(container=given.container, labels="predict", columns=columns_of(given.training.frame))
    found = python_forms.answers(schema, columns, estimator, given.judged.frame)
    follows = schema.task == "regression" or all(
        answer.prediction == schema.classes[answer.scores.index(max(answer.scores))] for answer in found
    )
    served = columns.model_copy(update={"labels": "scores"}) if follows else columns
    return _Original(estimator, schema, columns, served, found)


def _stored(model: Any, form: FormChoice, trust: Trust | None) -> tuple[Form, dict[str, bytes]]:
    """The form that was chosen, and the model's own file."""
    if form == "lightgbm-text" or (form == "auto" and is_lightgbm(model)):
        if not is_lightgbm(model):
            raise InvalidInput(
                "Only a bare LightGBM model can be stored as LightGBM text.",
                kind="model",
                name=type(model).__name__,
                hint="Leave `form` out, or take the model out of its pipeline.",
            )
        booster = model if is_booster(model) else model.booster_
        return "lightgbm-text", {lightgbm_text.MODEL_FILE: booster.model_to_string().encode()}
    # Joblib only where skops has been tried: nobody gets a package that runs code by a convenience of ours.
    data = b"" if form == "joblib" else skops_zip.dumps(model)
    foreign = [] if form == "joblib" else skops_zip.foreign_types(data)
    if form != "joblib" and not foreign:
        return "skops", {python_forms.MODEL_FILES["skops"]: data}
    if trust != "code" or form == "skops":
        raise PackageRefused(
            "The model must be stored as joblib, and loading that runs code."
            if not foreign
            else f"The model contains types that are not on the list of known ones: {', '.join(foreign)}.",
            code="trust-required" if not foreign else "untrusted-types",
            kind="model",
            name=type(model).__name__,
            hint='Build it with `--trust code` (trust="code"), and allow it in the deployment.',
        )
    target = io.BytesIO()
    joblib.dump(model, target)
    return "joblib", {python_forms.MODEL_FILES["joblib"]: target.getvalue()}


def _libraries(model: Any, form: Form) -> set[str]:
    if form == "lightgbm-text":
        return set(_LIBRARIES[form])
    modules = modules_of(model)
    known = {_PROVIDERS[module] for module in modules & _PROVIDERS.keys()}
    # Asking which distribution provides a module reads the metadata of all of them: only for what is not known by name.
    others = metadata.packages_distributions() if modules - _PROVIDERS.keys() else {}
    return {*_LIBRARIES[form], *known, *(name for module in modules for name in others.get(module, []))}


def _entries(files: Mapping[str, bytes]) -> list[FileEntry]:
    return [FileEntry(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in sorted(files.items())]


def _built(
    given: _Given,
    original: _Original,
    stored: tuple[Form, dict[str, bytes]],
    words: dict[str, Any],
    extras: _Extras,
) -> BuiltPackage:
    form, files = stored
    model, judged, schema = given.model, given.judged, original.schema
    files[BASELINE_FILE] = baseline(schema, rows_of(judged.frame), original.judged, judged.kind)
    files[SOURCE_FILE] = source_text(model).encode()
    if form != "lightgbm-text":
        files[COLUMNS_FILE] = original.served.model_dump_json().encode()
    if extras.include_data:
        files.update(_parquet(given.training, schema.target) | _parquet(judged, schema.target))
    measured = {f"{judged.kind}_{key}": value for key, value in measure(schema, judged.labels, original.judged).items()}
    return _proven(
        {
            **words,
            "form": form,
            # What loading does decides, not what was permitted: a model that skops knows stays data under trust="code".
            "trust": "code" if form == "joblib" else "data",
            "schema": schema,
            "files": _entries(files),
            "environment": environment.current(_libraries(model, form), extras.variables),
            "metrics": {**measured, **extras.metrics},
            "hyperparameters": hyperparameters(model),
        },
        files,
        original,
        judged,
    )


def _proven(document: dict[str, Any], files: Mapping[str, bytes], original: _Original, judged: _Data) -> BuiltPackage:
    """Load the files back, compare with the original, and complete the manifest with what the served form answered."""
    # The original gets the frame as it came, the served form the rows as they will come through a door.
    sample = judged.part(_PROOF_ROWS)
    rows = rows_of(sample)
    draft = _draft(document)
    # `allow_code` is for this process alone: it runs the code of a model that its author holds in memory anyway.
    # From files, not from memory: what is proven is what will lie in the store.
    with tempfile.TemporaryDirectory() as folder:
        written = package_files.write(draft, files, Path(folder) / "package")
        served = forms.load(draft, written, allow_code=True)
        proof = compare(original.answers(sample), served.predict(rows), TOLERANCE)
        if proof.labels_different or proof.largest_difference > TOLERANCE:
            raise PackageRefused(
                f"Served as {draft.form}, {draft.model} answers differently: {proof.labels_different} labels of {proof.rows}, "
                f"scores by up to {proof.largest_difference:.3g}.",
                code="golden-mismatch",
                kind="package",
                name=draft.model,
                hint="Give the data with the very dtypes that the model was trained on, or choose another form.",
            )
        golden = golden_rows(draft.data_schema, rows, served)
    return BuiltPackage(draft.model_copy(update={"golden": golden, "proof": proof}), files)


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


def _summary(data: _Data, source: str) -> DataSummary:
    """Shape and digest: sha256 of the rows as CSV with the target last, so that no library's file format matters."""
    # Written through a digest instead of into memory: as text, training data may be many times the size of the frame.
    digest = hashlib.sha256()
    with io.TextIOWrapper(cast(Any, _Digesting(digest)), encoding="utf-8", newline="\n", write_through=True) as sink:
        data.frame.assign(**{"": data.labels}).to_csv(sink, index=False, lineterminator="\n")
        sink.flush()
    return DataSummary(
        rows=len(data.frame), digest=f"sha256:{digest.hexdigest()}", columns=list(data.frame.columns), source=source
    )


class _Digesting(io.RawIOBase):
    """A file that keeps nothing of what is written but its digest."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)


def _parquet(data: _Data, target: str) -> dict[str, bytes]:
    sink = io.BytesIO()
    # A feature may be called like the target: it must not be written over, so the target gives way.
    while target in data.frame.columns:
        target += "_"
    data.frame.assign(**{target: data.labels}).to_parquet(sink, index=False, compression="zstd")
    return {f"data/{data.kind}.parquet": sink.getvalue()}


def _model_file(path: Path) -> Any:
    # Asked beforehand: LightGBM's own words for a missing file are those for a damaged one.
    if not path.exists():
        raise _no_file(path)
    try:
        if path.suffix == ".txt":
            import lightgbm

            return lightgbm.Booster(model_file=path)
        return joblib.load(path)
    except Exception as error:
        # Unpickling raises whatever the file's classes raise, when a library is absent or another version.
        raise InvalidInput(
            f"{path} cannot be read as a model: {type(error).__name__}.",
            kind="file",
            name=str(path),
            hint="Write it with joblib.dump(model, path), and read it with the same libraries.",
        ) from error


def _no_file(path: Path) -> InvalidInput:
    return InvalidInput(f"There is no file {path}.", kind="file", name=str(path), hint="Check the path.")


def _table(path: Path, target: str, model: Any) -> tuple[pd.DataFrame, Any]:
    """Features and target; only the columns that the model was fitted on, where it knows them."""
    try:
        # pandas' own reading of missing values, for that is what the model was most likely trained with.
        frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except FileNotFoundError:
        raise _no_file(path) from None
    except Exception as error:
        raise InvalidInput(
            f"{path} cannot be read: {type(error).__name__}.", kind="file", name=str(path), hint="Give a .parquet or .csv file."
        ) from error
    if target not in frame.columns:
        raise InvalidInput(f"{path} has no column {target}.", kind="file", name=str(path), hint="Name the target with --target.")
    # Tables often hold keys and dates beside the features; a model fitted to a frame says what it wants.
    fitted = model.feature_name() if is_booster(model) else getattr(model, "feature_names_in_", None)
    known = [str(name) for name in fitted] if fitted is not None else []
    features = known if known and set(known) <= set(frame.columns) else [name for name in frame.columns if name != target]
    return _with_categories(frame[features], model), frame[target]


def _with_categories(frame: pd.DataFrame, model: Any) -> pd.DataFrame:
    """Text columns as the categories that a LightGBM model was trained on, which most files cannot hold."""
    # Without them LightGBM refuses the column, and categories made anew would have other codes.
    booster = model if is_booster(model) else model.booster_ if is_lightgbm(model) else None
    known = getattr(booster, "pandas_categorical", None) or []
    texts = [
        name for name, dtype in frame.dtypes.items() if not isinstance(dtype, pd.CategoricalDtype) and dtype in ("object", "str")
    ]
    if len(texts) != len(known):
        return frame
    kinds = {str(name): pd.CategoricalDtype(categories) for name, categories in zip(texts, known, strict=True)}
    return frame.assign(**{name: frame[name].astype(kind) for name, kind in kinds.items()})
