"""The forms in which a model is stored and served, and the one way to load each of them.

| form | needs | runs code when loaded |
|---|---|---|
| `lightgbm-text` | lib_lightgbm.so | no |
| `skops` | the recorded Python environment | no: only types of our own list |
| `joblib` | the recorded Python environment | yes: `trust: code`, allowed by name |
"""

from __future__ import annotations

from pathlib import Path

from quarterdeck.errors import PackageRefused
from quarterdeck.forms import lightgbm_text
from quarterdeck.manifest import Form, Manifest
from quarterdeck.model import Model

__all__ = ["Model", "in_process", "load"]


def in_process(form: Form) -> bool:
    """Whether a node may load the form into its serving process; the others run in a worker of their own."""
    # Python forms run code of other people's libraries, which may hold the interpreter's lock or crash: not beside the doors.
    return form == "lightgbm-text"


def check_trust(manifest: Manifest, *, allow_code: bool) -> None:
    """Refuse a package that runs code when loaded unless both its manifest and the deployment say so.

    Raises:
        PackageRefused: ``trust-required``.
    """
    # A joblib file that calls itself data is a lie or a mistake: refused even where code is allowed.
    runs_code = manifest.form == "joblib" or manifest.trust == "code"
    if runs_code and not (allow_code and manifest.trust == "code"):
        raise PackageRefused(
            f"Loading {manifest.model} ({manifest.form}) runs code from the package, which is not allowed here.",
            code="trust-required",
            kind="package",
            name=manifest.model,
            hint="Say `trust: code` in the deployment if you know who made the package, or build it as skops.",
            extra={"place": "trust"},
        )


def load(manifest: Manifest, folder: Path, *, allow_code: bool) -> Model:
    """Load a verified package's model.

    The caller has compared files and environment before (`quarterdeck.verify`); the bytes that are loaded are compared once more.

    Args:
        manifest: of the package.
        folder: where its files lie.
        allow_code: whether the deployment allows packages that run code when loaded.

    Raises:
        PackageRefused: ``trust-required``, ``untrusted-types``, ``load-failed``, ``file-missing`` or ``digest-mismatch``.
    """
    check_trust(manifest, allow_code=allow_code)
    if manifest.form == "lightgbm-text":
        return lightgbm_text.load(manifest, folder)
    # pandas and scikit-learn are imported only for packages that need them: a node for LightGBM text has neither.
    from quarterdeck.forms import python_forms

    return python_forms.load(manifest, folder)
