"""Two stores and a dictionary, side by side: whatever is put, read, listed and removed, all three say the same."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from quarterdeck.errors import InvalidInput, QuarterdeckError
from quarterdeck.storage import Storage
from quarterdeck.storage.folder import CHUNK, FolderStorage
from quarterdeck.storage.keys import MAX_KEY, check_key, check_prefix
from quarterdeck.storage.memory import MemoryStorage

# No key is the folder of another one: a file system cannot hold both, and no key that Quarterdeck makes needs it.
KEYS = [
    "a",
    "a.b",
    "a0",
    "A",
    "b/a",
    "b/a.b",
    "b/a0",
    "b/c/d",
    "b/c/e",
    "b-1/x",
    "_under/score",
    "models/m/1/manifest.json",
    "models/m/10/manifest.json",
    "models/m/2/manifest.json",
    "records/d/main/dt=2026-01-02/hh=03/boot-1-2.parquet",
    "s" * 200,
]
NO_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    ".hidden",
    "a/.hidden",
    "..",
    "a/../b",
    "a\\b",
    "a b",
    "a\n",
    "ä",
    "a\0",
    "-a",
    "=a",
    "s" * 201,
]

keys = st.sampled_from(KEYS)
contents = st.binary(max_size=40) | st.sampled_from([b"x" * CHUNK, bytes(range(256)) * 20])


class Stores(RuleBasedStateMachine):
    """The dictionary is the truth."""

    @initialize()
    def begin(self) -> None:
        """Everything is empty; the folder does not even exist."""
        self.folder = Path(tempfile.mkdtemp(prefix="storage-"))
        self.stores: list[Storage] = [MemoryStorage("machine"), FolderStorage(self.folder / "store")]
        self.truth: dict[str, bytes] = {}

    def _say(self, ask: Callable[[Storage], object]) -> object:
        """What all stores say, which must be the same; refusals count by what programs and people see of them."""
        answers = []
        for store in self.stores:
            try:
                answers.append(ask(store))
            except QuarterdeckError as error:
                answers.append((type(error), error.code, error.kind, error.name, getattr(error, "retryable", None)))
        assert answers[0] == answers[1]
        return answers[0]

    @rule(key=keys, data=contents, if_absent=st.booleans(), from_file=st.booleans())
    def put(self, key: str, data: bytes, if_absent: bool, from_file: bool) -> None:
        """Bytes or a file; unconditionally, or only where nothing is."""
        source = self.folder / "source"
        source.write_bytes(data)
        stored = not (if_absent and key in self.truth)
        assert self._say(lambda store: store.put(key, source if from_file else data, if_absent=if_absent)) is stored
        if stored:
            self.truth[key] = data

    @rule(key=keys, start=st.integers(0, 60), length=st.none() | st.integers(0, 60))
    def get(self, key: str, start: int, length: int | None) -> None:
        """Any range of what is there; a refusal that names what is not."""
        said = self._say(lambda store: store.get(key, start, length))
        if key in self.truth:
            assert said == self.truth[key][start : None if length is None else start + length]
        else:
            assert isinstance(said, tuple)
            assert said[1:] == ("not-found", "object", key, False)

    @rule(key=keys, start=st.integers(0, 60))
    def stream(self, key: str, start: int) -> None:
        """The same bytes in chunks that are bounded."""
        said = self._say(lambda store: list(store.stream(key, start)))
        if key in self.truth:
            assert isinstance(said, list)
            assert b"".join(said) == self.truth[key][start:]
            assert all(0 < len(chunk) <= CHUNK for chunk in said)
        else:
            assert isinstance(said, tuple)
            assert said[1] == "not-found"

    @rule(key=keys)
    def size(self, key: str) -> None:
        """Bytes, or None."""
        assert self._say(lambda store: store.size(key)) == (len(self.truth[key]) if key in self.truth else None)

    @rule(key=keys, cut=st.integers(0, 12))
    def listing(self, key: str, cut: int) -> None:
        """Everything that starts like this, sorted as text."""
        said = self._say(lambda store: list(store.list(key[:cut])))
        assert said == sorted(name for name in self.truth if name.startswith(key[:cut]))

    @rule(key=keys)
    def delete(self, key: str) -> None:
        """Gone, whether it was there or not."""
        assert self._say(lambda store: store.delete(key)) is None
        self.truth.pop(key, None)

    @rule(key=st.sampled_from(NO_KEYS))
    def what_is_no_key(self, key: str) -> None:
        """Refused by every method alike, without being repeated; nothing changes."""
        asks: list[Callable[[Storage], object]] = [
            lambda store: store.get(key),
            lambda store: store.put(key, b"x"),
            lambda store: store.put(key, b"x", if_absent=True),
            lambda store: store.size(key),
            lambda store: store.delete(key),
        ]
        for ask in asks:
            assert self._say(ask) == (InvalidInput, "invalid-input", "key", "", None)

    @rule()
    def another_process_opens_the_folder(self) -> None:
        """Everything is on the disk, nothing in the object."""
        self.stores[1] = FolderStorage(self.folder / "store")

    @rule()
    def check(self) -> None:
        """The proof leaves one small object behind and nothing else."""
        assert self._say(lambda store: store.check()) is None
        self.truth["checks/probe"] = self.stores[0].get("checks/probe")

    @invariant()
    def everything_is_as_the_truth_says(self) -> None:
        """The whole list, and nothing half written beside it."""
        assert self._say(lambda store: list(store.list(""))) == sorted(self.truth)
        incoming = self.folder / "store" / ".incoming"
        assert not incoming.exists() or list(incoming.iterdir()) == []

    def teardown(self) -> None:
        """Every byte once more."""
        if hasattr(self, "folder"):
            for key, data in self.truth.items():
                assert self._say(lambda store, key=key: store.get(key)) == data  # type: ignore[misc]
            shutil.rmtree(self.folder)


def test_stores_agree_with_a_dictionary() -> None:
    """Same answers and same refusals, whatever came before."""
    # Not shrunk: the steps of a long story are short to read, and shrinking one takes minutes.
    unhurried = settings(
        derandomize=True,
        database=None,
        max_examples=30,
        stateful_step_count=40,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Stores, settings=unhurried)


@given(text=st.text(alphabet="aZ0._=-/ \\\n\0ä", max_size=12))
@settings(derandomize=True, database=None, max_examples=300, deadline=None)
def test_a_key_can_be_listed_by_each_of_its_beginnings(text: str) -> None:
    """What starts a key is a prefix; what is a key names a path below the root and never leaves it."""
    try:
        check_key(text)
    except InvalidInput:
        return
    for cut in range(len(text) + 1):
        assert check_prefix(text[:cut]) == text[:cut]
    assert not Path(text).is_absolute()
    assert all(part and not part.startswith(".") for part in text.split("/"))


def test_keys_end_at_their_longest() -> None:
    """Segment by segment and as a whole."""
    segment = "s" * 127
    assert len(check_key("/".join([segment] * 4))) == MAX_KEY - 1
    with pytest.raises(InvalidInput):
        check_key("/".join([segment] * 4) + "/s")
