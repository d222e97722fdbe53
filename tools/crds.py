"""Writes the CustomResourceDefinition, for kubectl and as a template of the chart; part of `make generate`. Tests compare it."""

from __future__ import annotations

from pathlib import Path

from quarterdeck import crd
from tests.support import ROOT

NOTE = "# Made by `make generate` from core/quarterdeck/crd.py.\n"
FOLDER = ROOT
FILE = Path("crds", f"{crd.CRD_NAME}.yaml")
# A template, not Helm's own folder crds/: that one is installed once, and no upgrade touches it.
TEMPLATE = Path("charts", "quarterdeck", "templates", "crds.yaml")
_NAME = f"  name: {crd.CRD_NAME}\n"
_KEEP = """\
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""


def render() -> dict[Path, str]:
    """Both files by their path in `FOLDER`."""
    text = crd.text()
    kept = text.replace(_NAME, _NAME + _KEEP, 1)
    return {FILE: NOTE + text, TEMPLATE: f"{NOTE}{{{{- if .Values.crds.install }}}}\n{kept}{{{{- end }}}}\n"}


def write() -> None:
    """Write them into the checkout."""
    for path, text in render().items():
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / path).write_text(text, encoding="utf-8")
        print(path)
