"""From an MLflow model folder to a package, compiled and proven as `quarterdeck.build` does it.

LightGBM's text and what skops knows are read without running code of theirs. Pickles run whatever they hold: only with
``trust="code"``, and in a process of their own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from quarterdeck import environment
from quarterdeck.build import BuiltPackage, package
from quarterdeck.build_data import table, with_categories
from quarterdeck.errors import InvalidInput, PackageRefused
from quarterdeck.forms import skops_zip
from quarterdeck.manifest import Trust
from quarterdeck.mlflow_models import beside, pyfunc
from quarterdeck.mlflow_models.folder import MlflowFolder, Signature
from quarterdeck.schema import Frozen, Name

# What each flavor's own library is called, and where it wrote its version.
_LIBRARIES = {"sklearn": ("scikit-learn", "sklearn_version"), "lightgbm": ("lightgbm", "lgb_version")}


class Wanted(Frozen):
    """What the package shall be called, and what MLflow's folder does not say."""

    name: Name
    trust: Trust = Field("data", description="`code` where pickles and Python code of the folder may run.")
    data: str = Field("", description="File with rows, .parquet or .csv; the saved input example where empty.")
    target: str = Field("", description="The target's column in that file; metrics come from it.")
    classes: list[str] = Field(default_factory=list, description="Classes in the order of the scores, where nobody else knows.")
    description: str = ""
    seconds: Annotated[float, Field(gt=0)] = Field(600.0, description="For code of the folder, all of it together.")


def import_mlflow(path: Path, wanted: Wanted) -> BuiltPackage:
    """The package of a model that MLflow saved with its flavor sklearn, lightgbm, or python_function alone.

    Raises:
        InvalidInput: ``signature-missing``, ``example-missing``, ``flavor-unknown``; or something does not fit, by its name.
        PackageRefused: ``trust-required`` where reading the model runs its code; ``environment-mismatch`` where it was saved
            with another version of its library; and whatever `quarterdeck.build.package` refuses.
    """
    found = MlflowFolder(path)
    # Asked for first: without it nothing else is worth its time.
    signature = found.signature()
    flavor = next((name for name in _LIBRARIES if name in found.flavors), None)
    if flavor is None:
        if "python_function" not in found.flavors:
            raise InvalidInput(
                "The model has none of the flavors sklearn, lightgbm and python_function.",
                code="flavor-unknown",
                kind="mlflow",
                name=path.name,
                hint="Save it with one of these flavors.",
            )
        _require_trust(found, wanted, "python_function")
        return pyfunc.package(found, signature, _rows(found, signature, wanted, None)[0], wanted.model_dump())
    file = found.file(flavor, "data", "pickled_model")
    if _is_pickle(found, flavor, file):
        _require_trust(found, wanted, flavor)
        if not beside.inside():
            return beside.run(path, wanted.model_dump_json(), wanted.seconds)
    return _built(found, signature, flavor, file, wanted)


def _built(found: MlflowFolder, signature: Signature, flavor: str, file: Path, wanted: Wanted) -> BuiltPackage:
    if file.suffix != ".lgb":
        _require_library(found, flavor)
    model = _model(found, flavor, file, wanted)
    rows, labels = _rows(found, signature, wanted, model)
    built = package(
        model,
        rows.to_numpy() if signature.array else rows,
        labels,
        name=wanted.name,
        description=wanted.description,
        trust=wanted.trust,
        target=wanted.target,
        classes=wanted.classes or None,
        nullable=[column.name for column in signature.columns if not column.required],
        run=found.run,
        producer=found.producer,
        source=Path(wanted.data).name if labels is not None else "",
    )
    if found.flavors[flavor].get("code") and built.manifest.form != "compiled":
        # A node has the libraries that the manifest records, and not what lies in a folder of MLflow's.
        raise PackageRefused(
            "The model needs Python files that MLflow keeps beside it, and has no compiled form.",
            code="load-failed",
            kind="mlflow",
            name=found.path.name,
            hint="Make an installable distribution of them, train with that, and save the model again.",
        )
    return built


def _model(found: MlflowFolder, flavor: str, file: Path, wanted: Wanted) -> Any:
    if file.suffix == ".lgb":
        # LightGBM is imported only by those who have such a model.
        import lightgbm

        return lightgbm.Booster(model_file=file)
    if file.suffix == ".skops":
        data = file.read_bytes()
        foreign = skops_zip.foreign_types(data)
        # Our own list counts: the one in MLflow's folder is the word of whoever wrote the folder.
        if not foreign:
            return skops_zip.loads(data)
        if wanted.trust != "code":
            raise PackageRefused(
                f"The model contains types that are not on the list of known ones: {', '.join(foreign)}.",
                code="untrusted-types",
                kind="mlflow",
                name=found.path.name,
                hint="Import it with `--trust code` if you trust whoever made it.",
            )
        return beside.skops(file, foreign)
    if code := found.flavors[flavor].get("code"):
        sys.path.insert(0, str(found.path / str(code)))
    return beside.unpickle(file)


def _rows(found: MlflowFolder, signature: Signature, wanted: Wanted, model: Any) -> tuple[pd.DataFrame, Any]:
    """Rows in the signature's columns and types, and their true values where there are some."""
    labels: Any = None
    if wanted.data:
        if not wanted.target:
            raise InvalidInput("The rows' target is not named.", kind="option", name="--target", hint="Name its column.")
        if signature.array:
            hint = "Leave --data out, or save the model again after fitting it to a DataFrame."
            raise InvalidInput(
                "The model takes a bare array, whose columns have no names.", kind="option", name="--data", hint=hint
            )
        rows, labels = table(Path(wanted.data), wanted.target, None)
        frame = signature.frame(rows)
    else:
        example = found.example(signature)
        if example is None or example.empty:
            raise InvalidInput(
                "The model has no input example, so nothing can be proven of it.",
                code="example-missing",
                kind="mlflow",
                name=found.path.name,
                hint="Save it with `input_example=X[:20]`, or give rows with --data and --target.",
            )
        frame = example
    return (with_categories(frame, model) if model is not None else frame), labels


def _is_pickle(found: MlflowFolder, flavor: str, file: Path) -> bool:
    """Whether reading the file may run code of it."""
    if file.suffix == ".skops":
        return bool(skops_zip.foreign_types(file.read_bytes()))
    return file.suffix != ".lgb"


def _require_trust(found: MlflowFolder, wanted: Wanted, flavor: str) -> None:
    if wanted.trust != "code":
        raise PackageRefused(
            f"Reading this model ({flavor}) runs code that it brings along.",
            code="trust-required",
            kind="mlflow",
            name=found.path.name,
            hint="Import it with `--trust code` if you trust whoever made it.",
        )


def _require_library(found: MlflowFolder, flavor: str) -> None:
    library, member = _LIBRARIES[flavor]
    wanted, here = str(found.flavors[flavor].get(member) or ""), environment.installed(library)
    # Equal, not compatible: estimators' attributes change without notice even in bug-fix releases.
    if wanted and wanted != here:
        raise PackageRefused(
            f"The model was saved with {library} {wanted}; here is {here or 'none'}.",
            code="environment-mismatch",
            kind="mlflow",
            name=found.path.name,
            hint=f"Import it where {library} {wanted} is installed.",
            extra={"place": library, "wanted": wanted, "here": here},
        )
