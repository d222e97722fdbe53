"""The forms in which a model is stored and served, and the one way to load each of them.

| form | needs | runs code when loaded |
|---|---|---|
| `compiled` | numpy, and lib_lightgbm.so where it has trees | no |
| `skops` | the recorded Python environment | no: only types of our own list |
| `joblib` | the recorded Python environment | yes: `trust: code`, allowed by name |
| `python` | the recorded Python environment | yes: `trust: code`, allowed by name |
"""

from __future__ import annotations

from pathlib import Path

from quarterdeck.errors import PackageRefused
from quarterdeck.manifest import Form, Manifest
from quarterdeck.model import Model
from quarterdeck.plan import Accelerator

__all__ = ["Model", "in_process", "load"]


def in_process(form: Form) -> bool:
    """Whether a node may load the form into its serving process; the others run in a worker of their own."""
    # Python forms run code of other people's libraries, which may hold the interpreter's lock or crash: not beside the doors.
    return form == "compiled"


def check_trust(manifest: Manifest, *, allow_code: bool) -> None:
    """Refuse a package that runs code when loaded unless both its manifest and the deployment say so.

    Raises:
        PackageRefused: ``trust-required``.
    """
    # A joblib file or a program that calls itself data is a lie or a mistake: refused even where code is allowed.
    runs_code = manifest.form in ("joblib", "python") or manifest.trust == "code"
    if runs_code and not (allow_code and manifest.trust == "code"):
        raise PackageRefused(
            f"Loading {manifest.model} ({manifest.form}) runs code from the package, which is not allowed here.",
            code="trust-required",
            kind="package",
            name=manifest.model,
            hint="Say `trust: code` in the deployment if you know who made the package, or build it as skops.",
            extra={"place": "trust"},
        )


def load(manifest: Manifest, folder: Path, *, allow_code: bool, accelerator: Accelerator = "none") -> Model:
    """Load a verified package's model.

    The caller has compared files and environment before (`quarterdeck.verify`); the bytes that are loaded are compared once more.

    Args:
        manifest: of the package.
        folder: where its files lie.
        allow_code: whether the deployment allows packages that run code when loaded.
        accelerator: what shall score.

    Raises:
        PackageRefused: ``trust-required``, ``untrusted-types``, ``load-failed``, ``file-missing`` or ``digest-mismatch``;
            ``accelerator-unsupported`` or ``accelerator-missing``.
    """
    check_trust(manifest, allow_code=allow_code)
    if accelerator != "none":
        # ONNX Runtime is large, and only deployments that ask for a GPU need it.
        from quarterdeck.accelerated import model as accelerated

        return accelerated.load(manifest, folder, accelerator)
    # numpy is imported by whoever loads a model, not by every command that reads a manifest.
    if manifest.form == "compiled":
        from quarterdeck.compiled import model as compiled

        return compiled.load(manifest, folder)
    if manifest.form == "python":
        from quarterdeck.forms import python_code

        return python_code.load(manifest, folder)
    # pandas and scikit-learn are imported only for packages that need them: a node for compiled ones has neither.
    from quarterdeck.forms import python_forms

    return python_forms.load(manifest, folder)
