"""The node's pages: they work without a script, load nothing from elsewhere, and show nothing they must not."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from html.parser import HTMLParser

import pytest

from tests.nodes import LocalNode, binary, deployment, encoding, key, local_node


class Page(HTMLParser):
    """Fields, links and elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.elements: list[str] = []
        self.places: list[str] = []
        self._select = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a browser would load, show or send."""
        found = {name: value or "" for name, value in attrs}
        self.elements.append(tag)
        self.places += [found[name] for name in ("href", "src", "action") if name in found]
        if tag == "input":
            self.fields[found["name"]] = found.get("value", "")
        if tag == "select":
            self._select = found["name"]
        if tag == "option" and self._select and "selected" in found:
            self.fields[self._select] = "selected"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A public deployment and one that needs a key."""
    with local_node(tmp_path_factory.mktemp("node"), url="http://node.example") as node:
        node.serves(
            deployment(node.holds(binary(), 3), name="late", revision=7),
            deployment(node.holds(encoding(1), 1), name="closed", access="project"),
            keys=(key("<mine>"),),
        )
        yield node


def filled() -> dict[str, str]:
    """The form's fields for a golden row."""
    row = binary().manifest.golden[0].row
    texts = {
        name: "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in row.items()
    }
    return {f"feature:{name}": text for name, text in texts.items()}


@pytest.mark.parametrize("path", ["/docs", "/deployments/late/form", "/deployments/closed/form"])
def test_pages_load_nothing_from_elsewhere(node: LocalNode, path: str) -> None:
    """No script at all, every place on this node, and a policy that says so."""
    answer = node.get(path)
    page = Page(answer.text)
    assert "script" not in page.elements
    assert all(place.startswith("/") for place in page.places)
    policy = answer.headers["content-security-policy"]
    assert policy == "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    assert answer.headers["cache-control"] == "no-store"
    assert node.get("/docs/style.css").headers["content-type"].startswith("text/css")


def test_the_form_predicts_and_shows_the_same_for_a_terminal(node: LocalNode) -> None:
    """Posting what the page was filled with gives the golden answer, its version, and a curl command for this node."""
    shown = Page(node.get("/deployments/late/form").text)
    assert set(shown.fields) == set(filled())
    answer = node.request("POST", "/deployments/late/form", data=filled())
    expected = str(binary().manifest.golden[0].expected.prediction).lower()
    assert answer.status_code == 200
    assert f"<h2>{expected}</h2>" in answer.text
    assert "late v3, revision 7" in answer.text
    assert "curl -s http://node.example/deployments/late/predict" in answer.text
    assert answer.headers["quarterdeck-version"] == "3"


@pytest.mark.parametrize(
    ("field", "text", "status"),
    [
        ("feature:distance", "", 422),
        ("feature:distance", "far", 422),
        ("feature:distance", "1e999", 422),
        ("feature:distance", "true", 422),
        ("feature:hour", "1.5", 422),
        ("feature:holiday", "maybe", 422),
        ("feature:wind", "", 200),
        ("feature:carrier", "<b>", 200),
        ("feature:unknown", "1", 422),
        ("feature:distance", '"><script>alert(1)</script>', 422),
    ],
)
def test_the_form_refuses_as_the_other_doors_do(node: LocalNode, field: str, text: str, status: int) -> None:
    """With the column named, the fields as they were, and markup as text."""
    answer = node.request("POST", "/deployments/late/form", data={**filled(), field: text})
    assert answer.status_code == status
    assert "<script>" not in answer.text
    if status == 422:
        assert escape(field.removeprefix("feature:")) in answer.text


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"feature:hour=1&feature:hour=2", b"&".join(b"a%d=1" % n for n in range(3000)), b"feature:hour=%ff"]
)
def test_a_broken_form_is_refused(node: LocalNode, body: bytes) -> None:
    """400 and a page that says so."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = node.request("POST", "/deployments/late/form", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "text/html; charset=utf-8")


def test_a_closed_form_asks_for_the_key_and_shows_no_feature(node: LocalNode) -> None:
    """With the key it shows itself, then predicts; a wrong one gets the question again."""
    asked = node.get("/deployments/closed/form")
    assert asked.status_code == 401
    assert list(Page(asked.text).fields) == ["key"]
    assert "number" not in asked.text
    assert node.request("POST", "/deployments/closed/form", data={"key": "wrong"}).status_code == 401
    shown = Page(node.request("POST", "/deployments/closed/form", data={"key": "<mine>"}).text)
    assert shown.fields == {"key": "<mine>", "feature:number": shown.fields["feature:number"]}
    answer = node.request("POST", "/deployments/closed/form", data={"key": "<mine>", "feature:number": "3"})
    assert "<h2>1.0</h2>" in answer.text
    assert "$KEY" in answer.text


def test_the_openapi_document_describes_the_record(node: LocalNode) -> None:
    """Types, nullability, an example that is a golden row, and the refusals."""
    document = node.get("/openapi.json").json()
    record = document["components"]["schemas"]["late-record"]
    assert record["properties"]["distance"]["type"] == "number"
    assert record["properties"]["wind"]["type"] == ["number", "null"]
    assert record["required"] == binary().manifest.data_schema.names
    operation = document["paths"]["/deployments/late/predict"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["example"] == binary().manifest.golden[0].row
    assert "422" in operation["responses"]


def test_a_deployments_detail_has_examples_that_answer(node: LocalNode) -> None:
    """What GET shows as an example predicts to what it shows as the answer."""
    detail = node.get("/deployments/late").json()
    assert (detail["version"], detail["revision"], detail["schema"]["task"]) == (3, 7, "binary")
    for example in detail["examples"]:
        assert node.predict(example["record"], "late").json()["predictions"] == [example["answer"]]
