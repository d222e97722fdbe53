"""The manifest: canonical bytes, digests, and refusal of everything that is not exactly one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import PackageRefused
from quarterdeck.manifest import Environment, FileEntry, GoldenRow, Manifest, Scenario, digest_of
from quarterdeck.schema import Feature, Prediction, Schema

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | finite | texts
labels = st.booleans() | st.integers(-(2**63), 2**63) | finite | texts
json_values = st.recursive(
    st.booleans() | st.integers() | finite | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8
)
predictions = st.builds(Prediction, prediction=labels, scores=st.lists(finite, max_size=4))
rows = st.dictionaries(texts, scalars, max_size=4)
golden = st.lists(st.builds(GoldenRow, row=rows, expected=predictions), min_size=1, max_size=4)
scenarios = st.lists(
    st.builds(Scenario, name=texts, rows=st.lists(rows), expect=st.lists(predictions), tolerance=finite), max_size=2
)
paths = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,9}(/[a-z0-9][a-z0-9_-]{0,9}){0,2}", fullmatch=True)
files = st.lists(
    st.builds(FileEntry, path=paths, size=st.integers(0, 2**50), sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True)),
    max_size=3,
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Manifests of every content that the types allow."""
    schema = Schema(task="regression", features=[Feature(name=draw(texts.filter(bool)), type="float", minimum=draw(finite))])
    return Manifest(
        model="sample",
        form="skops",
        data_schema=schema,
        files=draw(files),
        environment=Environment(python="3.11.7", libraries=draw(st.dictionaries(texts, texts, max_size=3))),
        golden=draw(golden),
        scenarios=draw(scenarios),
        metrics=draw(st.dictionaries(texts, finite, max_size=3)),
        hyperparameters=draw(st.dictionaries(texts, json_values, max_size=3)),
        card=draw(texts),
    )


@given(manifests())
def test_reading_the_canonical_bytes_gives_the_same_manifest(manifest: Manifest) -> None:
    """Whatever is in it, bytes and digest survive the way through a store, and nulls in rows stay."""
    raw = manifest.canonical()
    again = Manifest.parse(raw, expected=manifest.digest)
    assert again == manifest
    assert again.canonical() == raw
    assert digest_of(raw) == manifest.digest


def sample() -> Manifest:
    """A small manifest."""
    return Manifest(
        model="sample",
        form="compiled",
        data_schema=Schema(task="regression", features=[Feature(name="distance", type="float")]),
        files=[FileEntry(path="model.txt", size=3, sha256="0" * 64)],
        environment=Environment(python="3.11.7"),
        golden=[GoldenRow(row={"distance": 1.0}, expected=Prediction(prediction=2.0))],
    )


@pytest.mark.parametrize(
    "change",
    [
        {"manifest": 2},
        {"form": "pickle"},
        {"trust": "all"},
        {"model": "../sample"},
        {"golden": []},
        {"unknown": 1},
        {"files": [{"path": "../model.txt", "size": 1, "sha256": "0" * 64}]},
        {"files": [{"path": "/model.txt", "size": 1, "sha256": "0" * 64}]},
        {"files": [{"path": "a/../b", "size": 1, "sha256": "0" * 64}]},
        {"files": [{"path": "model.txt", "size": -1, "sha256": "0" * 64}]},
        {"files": [{"path": "model.txt", "size": 1, "sha256": "zz"}]},
        {"parent": "sha256:short"},
    ],
    ids=str,
)
def test_what_is_no_manifest_is_refused_by_place(change: dict[str, Any]) -> None:
    """An impossible member is refused as `manifest-invalid`, naming the member."""
    raw = json.dumps({**json.loads(sample().canonical()), **change}).encode()
    with pytest.raises(PackageRefused) as refused:
        Manifest.parse(raw)
    assert refused.value.code == "manifest-invalid"
    assert next(iter(change)) in refused.value.detail


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"\xff\xfe", sample().canonical() + b"\n", b" " + sample().canonical()]
)
def test_bytes_that_are_not_canonical_are_refused(raw: bytes) -> None:
    """One document has one form: otherwise one version could have two digests."""
    with pytest.raises(PackageRefused) as refused:
        Manifest.parse(raw)
    assert refused.value.code == "manifest-invalid"


def test_every_changed_byte_is_another_digest() -> None:
    """Each single byte of a manifest is covered by the digest that a deployment names."""
    raw = sample().canonical()
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        with pytest.raises(PackageRefused) as refused:
            Manifest.parse(changed, expected=sample().digest)
        assert refused.value.code == "digest-mismatch"


def test_a_file_that_is_not_listed_is_named() -> None:
    """Asking for a file that the manifest lacks says which."""
    assert sample().file("model.txt").size == 3
    assert sample().size == 3
    with pytest.raises(PackageRefused, match=r"other\.txt") as refused:
        sample().file("other.txt")
    assert refused.value.code == "file-missing"
