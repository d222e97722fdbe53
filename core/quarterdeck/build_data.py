"""The data that a package is built with: rows with their target, their digest, and the files that they come from."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import joblib
import pandas as pd

from quarterdeck.errors import InvalidInput
from quarterdeck.golden import spread
from quarterdeck.infer import frame_from, is_booster, is_lightgbm, labels_of
from quarterdeck.manifest import DataSummary
from quarterdeck.schema import Label


@dataclass(frozen=True)
class Data:
    """Rows with their target, and which data it is; without `labels` they are mere examples of what the model takes."""

    kind: Literal["training", "validation"]
    frame: pd.DataFrame
    labels: list[Label] | None

    def part(self, rows: int) -> pd.DataFrame:
        """At most `rows` rows, evenly spread."""
        return self.frame.iloc[spread(len(self.frame), rows)]


def labelled(kind: Literal["training", "validation"], X: Any, y: Any, names: Sequence[str]) -> Data:
    """Rows and targets of one kind, without `y` mere examples; `InvalidInput` where they do not belong together."""
    frame, labels = frame_from(X, names), None if y is None else labels_of(y)
    if labels is not None and len(frame) != len(labels):
        detail = f"The {kind} data has {len(frame)} rows and {len(labels)} targets."
        raise InvalidInput(detail, kind="data", name="y", hint="Give one target for each row.")
    return Data(kind, frame, labels)


def summary(data: Data, source: str) -> DataSummary:
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


def parquet(data: Data, target: str) -> dict[str, bytes]:
    """The rows themselves as a file of the package, by its path."""
    sink = io.BytesIO()
    # A feature may be called like the target: it must not be written over, so the target gives way.
    while target in data.frame.columns:
        target += "_"
    data.frame.assign(**{target: data.labels}).to_parquet(sink, index=False, compression="zstd")
    return {f"data/{data.kind}.parquet": sink.getvalue()}


def model_file(path: Path) -> Any:
    """A fitted model that lies in a file, whose code is run; `InvalidInput` where it cannot be read."""
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


def table(path: Path, target: str, model: Any) -> tuple[pd.DataFrame, Any]:
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
    return with_categories(frame[features], model), frame[target]


def with_categories(frame: pd.DataFrame, model: Any) -> pd.DataFrame:
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
