"""skops archives: read with our own list of types, written so that the same model gives the same bytes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import skops.io

from quarterdeck.errors import PackageRefused

MODEL_FILE = "model.skops"
SCHEMA_FILE = "schema.json"
# The earliest moment that a zip archive can carry.
_EPOCH = (1980, 1, 1, 0, 0, 0)

# What skops itself does not trust but estimators of the three libraries consist of: found by writing each of scikit-learn's
# and LightGBM's estimators, never by what somebody's package asked for. All are classes of those libraries' own.
ALLOWED_TYPES = frozenset(
    {
        "collections.OrderedDict",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRegressor",
        "numpy.dtype",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._bsplines.BSpline",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.compose._column_transformer.make_column_selector",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        # An experiment of scikit-learn's, which skops knows only where it was switched on first.
        "sklearn.impute._iterative.IterativeImputer",
        "sklearn.impute._iterative._ImputerTriplet",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
    }
)


def foreign_types(data: bytes) -> list[str]:
    """Names of the types in an archive that are neither skops' own trusted ones nor on our list; nothing is constructed."""
    return sorted(set(skops.io.get_untrusted_types(data=data)) - ALLOWED_TYPES)


def loads(data: bytes) -> Any:
    """The object in an archive.

    Raises:
        PackageRefused: ``untrusted-types`` naming them, or ``load-failed`` where it is no such archive.
    """
    _check_archive(data)
    foreign = foreign_types(data)
    if foreign:
        raise PackageRefused(
            f"The model contains types that are not on the list of known ones: {', '.join(foreign)}.",
            code="untrusted-types",
            kind="package",
            hint="Build it with `--trust code` (joblib) if you know who made it.",
            extra={"place": foreign[0]},
        )
    # skops is told our list and not what the archive asked for, so a gap in the check above opens nothing.
    return skops.io.loads(data, trusted=sorted(ALLOWED_TYPES))


def dumps(model: object) -> bytes:
    """An archive of the model in canonical form."""
    return canonical(skops.io.dumps(model))


def canonical(archive: bytes) -> bytes:
    """The same archive without what differs from process to process: object ids, file names, times, order.

    Ids become numbers in order of appearance. Immutable leaves each get one of their own: whether two equal strings are
    one object depends on the interpreter, not on the model.
    """
    with ZipFile(io.BytesIO(archive)) as source:
        document = json.loads(source.read(SCHEMA_FILE))
        files = {name: source.read(name) for name in source.namelist() if name != SCHEMA_FILE}
    names: dict[str, str] = {}
    ids: dict[int, int] = {}
    for number, node in enumerate(_nodes(document)):
        if "file" in node and isinstance(node["file"], str):
            old = node["file"]
            node["file"] = names.setdefault(old, f"{len(names)}.{old.rsplit('.', 1)[-1]}")
        if isinstance(node.get("__id__"), int):
            leaf = node.get("__loader__") in ("JsonNode", "TypeNode")
            node["__id__"] = number if leaf else ids.setdefault(node["__id__"], number)
    entries = {names[name]: content for name, content in files.items() if name in names}
    entries[SCHEMA_FILE] = json.dumps(document, separators=(",", ":")).encode()
    return _zipped(entries)


def _zipped(entries: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    # Stored, not deflated: compressed bytes differ between releases of zlib, and blobs are small beside training data.
    with ZipFile(target, "w", ZIP_STORED) as archive:
        for name in sorted(entries):
            archive.writestr(ZipInfo(name, _EPOCH), entries[name])
    return target.getvalue()


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document in reading order; members of sets in an order that does not depend on hashing."""
    if isinstance(node, dict):
        if node.get("__loader__") == "SetNode":
            node["content"].sort(key=_without_ids)
        yield node
        for value in node.values():
            yield from _nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from _nodes(value)


def _without_ids(node: Any) -> str:
    return json.dumps({key: value for key, value in node.items() if key != "__id__"}, sort_keys=True)


def _check_archive(data: bytes) -> None:
    """Refuse what is no archive of ours: a compressed member could be many times larger than the manifest says."""
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            plain = all(member.compress_type == ZIP_STORED and member.file_size <= len(data) for member in members)
            whole = SCHEMA_FILE in archive.namelist() and sum(member.file_size for member in members) <= len(data)
    except BadZipFile:
        plain = whole = False
    if not (plain and whole):
        raise PackageRefused(
            "The model is not a plain skops archive.",
            code="load-failed",
            kind="package",
            hint="Build the package again with this tool.",
            extra={"place": MODEL_FILE},
        )
