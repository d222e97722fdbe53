"""What the YAML of a deployment may not say, and how it is told: file, line, field, and the next step."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput
from quarterdeck.resources import API_VERSION, ModelDeployment, read, read_file

LINES = [
    "apiVersion: quarterdeck.dev/v1alpha1",
    "kind: ModelDeployment",
    "metadata:",
    "  name: late-flights",
    "spec:",
    "  model:",
    "    name: late-flights",
    "    version: 1",
]
GOOD = "\n".join(LINES) + "\n"


def refusal(text: str) -> InvalidInput:
    """How a text is refused."""
    with pytest.raises(InvalidInput) as caught:
        read(text, "late.yaml")
    return caught.value


@pytest.mark.parametrize("value", ["yes", "true", "'1'", "1.0", "0", "-1", "one", "[1]", "0.5"])
def test_a_version_is_a_whole_number_and_nothing_that_looks_like_one(value: str) -> None:
    """YAML's `yes` is no version 1, nor is a number in quotes: which version serves is never guessed."""
    found = refusal(GOOD.replace("version: 1", f"version: {value}"))
    assert found.detail.startswith("late.yaml:8: spec.model.version: ")
    challenger = refusal(GOOD + f"  challenger: {{version: {value}}}\n")
    assert challenger.detail.startswith("late.yaml:9: spec.challenger.version: ")


@pytest.mark.parametrize("value", ["2024-13-45", "2024-01-01 99:00:00", "!!int abc", "!!float x"])
def test_what_looks_like_a_date_and_is_none_is_refused(value: str) -> None:
    """YAML's reader stumbles over the thirteenth month; the user gets a sentence and not a traceback."""
    found = refusal(GOOD + f"  description: {value}\n")
    assert (found.code, found.name) == ("malformed", "late.yaml")
    assert "Quote" in found.hint


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        (GOOD + "kind: ModelDeployment\n", 9, "kind"),
        (GOOD + "  model: {name: other, version: 2}\n", 9, "model"),
        (GOOD + "    version: 2\n", 9, "version"),
        (GOOD + "  challenger: {version: 2, version: 3}\n", 9, "version"),
        (GOOD + "---\n" + GOOD + "spec: {}\n", 18, "spec"),
    ],
)
def test_a_field_that_is_there_twice_is_refused(text: str, line: int, field: str) -> None:
    """YAML's reader would take the last one and say nothing."""
    found = refusal(text)
    assert found.detail == f"late.yaml:{line}: {field}: is there twice."
    assert found.hint


@pytest.mark.parametrize(
    ("more", "field", "hint"),
    [
        ("  modle: {}\n", "spec.modle", "`model`"),
        ("  runing: true\n", "spec.runing", "`running`"),
        ("  reason: x\n", "spec.reason", "It belongs under `pin`."),
        ("  replicas: 3\n", "spec.replicas", "It belongs under `nodes`."),
        ("  zzz: 3\n", "spec.zzz", "Fields here are model, challenger, project"),
        ("  progress_seconds: 60\n", "spec.progress_seconds", "`progressSeconds`"),
        ("  store: {url: 's3://b', caConfigmap: x}\n", "spec.store.caConfigmap", "`caConfigMap`"),
        ("  nodes: {replica: 3}\n", "spec.nodes.replica", "`replicas`"),
        ("  nodes: {autoscaling: {maxReplica: 3}}\n", "spec.nodes.autoscaling.maxReplica", "`maxReplicas`"),
        ("  nodes: {minReplicas: 3}\n", "spec.nodes.minReplicas", "It belongs under `autoscaling`."),
        ("  nodes: {resources: {limit: {}}}\n", "spec.nodes.resources.limit", "`limits`"),
        ("  nodes: {tolerations: [{key: a}, {effekt: b}]}\n", "spec.nodes.tolerations.1.effekt", "`effect`"),
        ("  challenger: {version: 2, digest: x}\n", "spec.challenger.digest", "Fields here are model, version, trust"),
        ("  challenger: {versoin: 2}\n", "spec.challenger.versoin", "`version`"),
        ("status: {}\n", "status", "Fields here are apiVersion, kind, metadata, spec"),
    ],
)
def test_an_unknown_field_is_answered_with_the_known_ones(more: str, field: str, hint: str) -> None:
    """The closest name where there is one, else all that could stand there."""
    found = refusal(GOOD + more)
    assert f"late.yaml:9: {field}: is not a field." == found.detail
    assert hint in found.hint


@pytest.mark.parametrize(
    ("more", "line", "said", "hint"),
    [
        ("  records: off\n", 9, "spec.records: ", "YAML reads this as true or false; quote it"),
        ("  nodes:\n    env:\n      A: b\n      THREADS: 2\n", 12, "spec.nodes.env.THREADS: ", "a number; quote it"),
        ("  nodes:\n    nodeSelector: {since: 2024-01-01}\n", 10, "spec.nodes.nodeSelector.since: ", "a date; quote it"),
        ("  nodes:\n    resources:\n      limits: {cpu: 0.5}\n", 11, "spec.nodes.resources.limits.cpu: is not a quantity", ""),
        ("  nodes:\n    imagePullSecrets:\n    - good\n    - No\n", 12, "spec.nodes.imagePullSecrets.1: ", ""),
        ("  nodes:\n    tolerations:\n    - key: a\n      effect: Never\n", 12, "spec.nodes.tolerations.0.effect: ", ""),
        ("  progressSeconds: yes\n", 9, "spec.progressSeconds: ", ""),
        ("  running: 'no'\n", 9, "spec.running: ", ""),
    ],
)
def test_a_value_of_the_wrong_kind_is_placed_below_lists_and_maps_too(more: str, line: int, said: str, hint: str) -> None:
    """With YAML's own surprises explained: what it takes for a date, a number or a yes."""
    found = refusal(GOOD + more)
    assert found.detail.startswith(f"late.yaml:{line}: {said}")
    assert not found.detail.endswith("..")
    assert hint in found.hint


@pytest.mark.parametrize(
    ("dropped", "line", "field"),
    [(slice(3, 4), 3, "metadata"), (slice(2, 4), 1, "metadata"), (slice(6, 7), 6, "spec.model.name"), (slice(4, 8), 1, "spec")],
)
def test_a_missing_field_is_placed_where_it_belongs(dropped: slice, line: int, field: str) -> None:
    """At the line of the deepest part that is there."""
    lines = LINES.copy()
    del lines[dropped]
    found = refusal("\n".join(lines))
    assert found.detail.startswith(f"late.yaml:{line}: {field}: ")


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "3\n", "[]\n", "? [a]\n: b\n", "? {a: b}\n: c\n"])
def test_a_document_that_is_no_mapping_of_ours_is_refused(text: str) -> None:
    """Lists, words and odd keys are refused like every other mistake."""
    assert refusal(text).hint


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing yet\n", "---\n---\n", "null\n"])
def test_a_text_without_a_document_says_how_to_begin(text: str) -> None:
    """Comments and separators are no document."""
    assert API_VERSION in refusal(text).hint


@pytest.mark.parametrize("value", ["quarterdeck.dev/v1", "v1alpha1", "apps/v1"])
def test_another_api_version_names_ours(value: str) -> None:
    """Files for a newer or another program are told apart."""
    found = refusal(GOOD.replace(API_VERSION, value))
    assert found.name == "apiVersion"
    assert API_VERSION in found.hint


@pytest.mark.parametrize(
    "text", ["spec: [\n", "\tx: 1\n", "a: b: c\n", "x: \x00\n", "!!python/object:os.system {}\n", "*nowhere\n"]
)
def test_what_is_no_yaml_is_malformed(text: str) -> None:
    """Nothing is constructed, and the place is named where the reader knows it."""
    found = refusal(text)
    assert (found.code, found.kind) == ("malformed", "file")
    assert found.detail.startswith("late.yaml")


def test_files_that_are_no_text_are_named(tmp_path: Path) -> None:
    """Bytes that are not UTF-8, and a folder in the place of a file."""
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe")
    for path, words in ((tmp_path / "bytes.yaml", "not UTF-8"), (tmp_path, "directory")):
        with pytest.raises(InvalidInput, match=words):
            read_file(path)


words = st.text(max_size=30).filter(lambda text: text.isprintable())


@given(words, st.booleans(), st.integers(1, 10**9), st.sampled_from(["public", "instance", "project"]))
def test_descriptions_of_any_words_survive_the_file(description: str, running: bool, version: int, access: str) -> None:
    """`yes`, `1e3`, `2024-01-01`, quotes and colons in a text are text again."""
    document = {
        "apiVersion": API_VERSION,
        "kind": "ModelDeployment",
        "metadata": {"name": "x"},
        "spec": {
            "model": {"name": "m", "version": version}, "running": running, "access": access, "description": description,
        },
    }  # fmt: skip
    wanted = ModelDeployment.model_validate(document)
    assert read(wanted.to_yaml()) == [wanted]
    assert read(yaml.safe_dump(document, allow_unicode=True)) == [wanted]


def test_defaults_are_left_out_of_what_is_written() -> None:
    """A file says what its writer chose; a document's four members are always there."""
    assert read(GOOD)[0].document() == {
        "apiVersion": API_VERSION,
        "kind": "ModelDeployment",
        "metadata": {"name": "late-flights"},
        "spec": {"model": {"name": "late-flights", "version": 1}},
    }
