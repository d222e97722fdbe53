"""The demo's data and models on small frames: what is joined, what is split, what is trained, and what is scored again."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import accuracy_score, brier_score_loss

from demo import data, replay, report, show, train
from demo.recompute import Pair, Scores, recompute
from demo.replay import ROWS_PER_REQUEST, Replayed
from demo.report import Evidence
from quarterdeck import package_files
from quarterdeck.build import BuiltPackage
from quarterdeck.forms import load

CLASSES = [data.LATE, data.ON_TIME]
WEATHER = ["temp", "humid", "wind_speed", "precip", "pressure", "visib"]


@cache
def flights(rows: int = 1200) -> pd.DataFrame:
    """Flights from January to June, with weather that is missing now and then and flights that never arrived."""
    random = np.random.default_rng(13)
    frame = pd.DataFrame({"departure": pd.date_range("2013-01-01", "2013-06-30", rows, tz="UTC")})
    frame["flight"] = [f"AA{number}" for number in range(rows)]
    frame["weekday"] = frame["departure"].dt.day_of_week.astype("int64")
    frame["departure_minute"] = random.integers(300, 1400, rows)
    for name in ["distance", *WEATHER]:
        frame[name] = random.normal(50, 20, rows)
    frame.loc[random.random(rows) < 0.05, "temp"] = np.nan
    for name, words in (("carrier", ["AA", "B6", "UA"]), ("origin", ["EWR", "JFK", "LGA"]), ("dest", ["BOS", "LAX", "ORD"])):
        frame[name] = random.choice(words, rows)
    late = frame["departure_minute"] + 200 * (frame["carrier"] == "B6") + random.normal(0, 150, rows) > 1000
    frame[data.TARGET] = late.map({True: data.LATE, False: data.ON_TIME}).where(random.random(rows) > 0.03)
    return frame


def source(folder: Path) -> Path:
    """The two files of the data package, with three flights and the hour that came twice."""
    columns = [
        "year",
        "month",
        "day",
        "hour",
        "minute",
        "carrier",
        "flight",
        "origin",
        "dest",
        "distance",
        "arr_delay",
        "time_hour",
    ]
    rows = [
        (2013, 4, 1, 9, 30, "UA", 12, "EWR", "ORD", 719, 15, "2013-04-01T13:00:00Z"),
        (2013, 4, 1, 9, 5, "AA", 7, "JFK", "LAX", 2475, 16, "2013-04-01T13:00:00Z"),
        (2013, 4, 1, 10, 0, "B6", 3, "LGA", "BOS", 184, None, "2013-04-01T14:00:00Z"),
    ]
    text = io.StringIO()
    pd.DataFrame(rows, columns=columns).assign(dep_delay=1).to_csv(text, index=False)
    with zipfile.ZipFile(folder / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", text.getvalue())
    hours = [("EWR", "2013-04-01T13:00:00Z", 40.0), ("EWR", "2013-04-01T13:00:00Z", 41.0), ("JFK", "2013-04-01T13:00:00Z", 50.0)]
    weather = pd.DataFrame(hours, columns=["origin", "time_hour", "temp"])
    weather.assign(**dict.fromkeys(WEATHER[1:], 1.0), wind_gust=2.0).to_csv(folder / "weather.csv", index=False)
    return folder


def test_flights_get_the_weather_of_their_hour_and_keep_their_number(tmp_path: Path) -> None:
    """In order of departure; one row per flight though an hour came twice; late means more than 15 minutes."""
    table = data.prepared(source(tmp_path), tmp_path / "made" / "flights.parquet")
    assert list(table["flight"]) == ["AA7", "UA12", "B63"]
    assert list(table[data.TARGET].astype(object).where(table[data.TARGET].notna(), None)) == [data.LATE, data.ON_TIME, None]
    assert list(table["departure_minute"]) == [545, 570, 600]
    assert list(table["weekday"]) == [0, 0, 0]
    assert list(table["temp"])[:2] == [50.0, 40.0]
    assert np.isnan(table["temp"][2])
    assert list(table.columns) == ["departure", "flight", *data.FEATURES, data.TARGET]


def test_prepared_flights_are_read_again_without_their_source(tmp_path: Path) -> None:
    """The file is whole or not there, so whatever is there is used."""
    target = tmp_path / "flights.parquet"
    first = data.prepared(source(tmp_path), target)
    (tmp_path / "flights.csv.zip").unlink()
    pd.testing.assert_frame_equal(data.prepared(tmp_path, target), first)
    assert list(tmp_path.glob("*.part")) == []


def test_no_flight_is_fitted_validated_and_replayed_twice() -> None:
    """Three stretches of time that follow each other; only what was labelled is fitted or judged."""
    fitting, validation, replayed = data.fitting(flights()), data.validation(flights()), data.replayed(flights())
    assert fitting["departure"].max() < validation["departure"].min() <= validation["departure"].max() < data.TRAIN_UNTIL
    assert replayed["departure"].min() >= data.TRAIN_UNTIL
    assert fitting[data.TARGET].notna().all()
    assert validation[data.TARGET].notna().all()
    assert replayed[data.TARGET].isna().any()
    inside = flights()["departure"].between(data.TRAIN_UNTIL, data.REPLAY_UNTIL, inclusive="left").sum()
    assert len(replayed) == -(-inside // data.REPLAY_EVERY)


def test_nothing_that_shows_later_is_a_feature() -> None:
    """Neither delays nor air time; every feature is described and nothing else is."""
    assert set(data.DESCRIPTIONS) == set(data.FEATURES)
    assert not {"dep_delay", "arr_delay", "air_time", "arr_time", "dep_time", data.TARGET} & set(data.FEATURES)


def test_truth_is_told_flight_by_flight() -> None:
    """A label or None, never NaN."""
    told = data.truth(flights())
    assert {type(label) for label in told} == {str, type(None)}
    assert [label is None for label in told] == list(flights()[data.TARGET].isna())


@cache
def built() -> list[BuiltPackage]:
    """Both models of the demo, trained on the small frame."""
    fitting, validation = data.fitting(flights()), data.validation(flights())
    return [make(fitting, validation) for make in (train.regression, train.boosting)]


@pytest.mark.parametrize("place", [0, 1], ids=["regression", "boosting"])
def test_metrics_in_the_package_are_those_of_scikit_learn(place: int, tmp_path: Path) -> None:
    """What the loaded package answers to the validation rows gives the Brier score and accuracy in its manifest."""
    package, validation = built()[place], data.validation(flights())
    folder = package.write(tmp_path / "package")
    model = load(package.manifest, folder, allow_code=False)
    answers = model.predict(data.records(validation))
    came = validation[data.TARGET] == data.LATE
    late = list(package.manifest.data_schema.classes).index(data.LATE)
    chance = [answer.scores[late] for answer in answers]
    metrics = package.manifest.metrics
    assert metrics["validation_brier"] == pytest.approx(brier_score_loss(came, chance), abs=1e-9)
    right = accuracy_score(validation[data.TARGET], [answer.prediction for answer in answers])
    assert metrics["validation_accuracy"] == pytest.approx(right, abs=1e-9)


def test_both_packages_are_of_one_question() -> None:
    """Equal features, classes and name: one can be the challenger of the other, and both are compiled."""
    one, other = (package.manifest for package in built())
    assert [(each.name, each.type) for each in one.data_schema.features] == [
        (each.name, each.type) for each in other.data_schema.features
    ]
    assert set(one.data_schema.classes) == set(other.data_schema.classes) == set(CLASSES)
    assert one.data_schema.positive == other.data_schema.positive == data.LATE
    assert (one.model, one.form, other.form) == (train.MODEL, "compiled", "compiled")


def test_packages_are_trained_once(tmp_path: Path) -> None:
    """The second time nobody asks for flights; both folders are whole packages."""
    asked: list[int] = []

    def give() -> pd.DataFrame:
        asked.append(1)
        return flights()

    first = train.packages(give, tmp_path / "cache")
    assert train.packages(give, tmp_path / "cache") == first
    assert asked == [1]
    assert [package_files.read(folder).model for folder in first] == [train.MODEL] * 2
    assert [folder.name for folder in first] == ["1", "2"]


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from([data.LATE, data.ON_TIME, None]),
            st.floats(0, 1),
            st.floats(0, 1),
            st.sampled_from(["answered", "failed", "expired", "dropped", "missing"]),
        ),
        min_size=1,
        max_size=60,
    ),
    again=st.booleans(),
)
@settings(derandomize=True, database=None, max_examples=40, deadline=None)
def test_recomputed_scores_are_those_of_scikit_learn(
    rows: list[tuple[str | None, float, float, str]], again: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """On the rows that both answered and that have a truth, however often a file was delivered."""
    folder = tmp_path_factory.mktemp("records")
    names = [f"r{place // ROWS_PER_REQUEST}-{place % ROWS_PER_REQUEST}" for place in range(len(rows))]
    main = {
        "row_id": names,
        "caller_id": [replay.request_name(place - place % ROWS_PER_REQUEST) for place in range(len(rows))],
        "row": [place % ROWS_PER_REQUEST for place in range(len(rows))],
        "prediction": [json.dumps(label_of(chance)) for _, chance, _, _ in rows],
        "scores": [[chance, 1 - chance] for _, chance, _, _ in rows],
    }
    kept = [(name, row) for name, row in zip(names, rows, strict=True) if row[3] != "missing"]
    challenger = {
        "row_id": pa.array([name for name, _ in kept], pa.string()),
        "result": pa.array([row[3] for _, row in kept], pa.string()),
        "prediction": pa.array([json.dumps(label_of(row[2])) if row[3] == "answered" else None for _, row in kept], pa.string()),
        "scores": pa.array([[row[2], 1 - row[2]] if row[3] == "answered" else None for _, row in kept], pa.list_(pa.float64())),
    }
    for name, table in (("main", main), ("challenger", challenger)):
        (folder / name).mkdir()
        for part in range(2 if again else 1):
            pq.write_table(pa.table(table), folder / name / f"{part}.parquet")
    found = recompute(folder, [row[0] for row in rows], CLASSES, data.LATE)
    scored = [row for row in rows if row[0] is not None and row[3] == "answered"]
    for scores, place in ((found.main, 1), (found.challenger, 2)):
        assert scores.rows == len(scored)
        if scored:
            came = [row[0] == data.LATE for row in scored]
            chances = [float(str(row[place])) for row in scored]
            assert scores.brier == pytest.approx(float(np.mean((np.array(chances) - np.array(came)) ** 2)), abs=1e-12)
            if len(set(came)) == 2:
                assert scores.brier == pytest.approx(brier_score_loss(came, chances), abs=1e-12)
            told = [label_of(chance) for chance in chances]
            assert scores.accuracy == pytest.approx(accuracy_score([row[0] for row in scored], told))
        else:
            assert np.isnan(scores.brier)


def label_of(chance: float) -> str:
    """The more likely label."""
    return data.LATE if chance >= 0.5 else data.ON_TIME


EVIDENCE = Evidence(
    Replayed(sent=1000, answered=1000),
    {"mirrored": 1000, "answered": 995, "failed": 1, "expired": 2, "dropped": 1, "pending": 1},
    {"records": 1000, "pairs": 995, "labelled": 970},
    Pair(Scores(970, 0.18, 0.75), Scores(970, 0.17, 0.76)),
    Pair(Scores(970, 0.18, 0.75), Scores(970, 0.17, 0.76)),
)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the demo prints, as a pipe would get it."""
    out = io.StringIO()
    plain = Console(file=out, width=120, highlight=False, soft_wrap=True)
    for module in (show, report):
        monkeypatch.setattr(module, "console", plain)
    return out


def test_counts_are_printed_with_their_sum(said: io.StringIO) -> None:
    """Whoever reads it can add up the mirror's ledger."""
    report.show_counts(EVIDENCE)
    assert "sent 1,000   answered 1,000   mirrored 1,000   paired 995   labelled 970" in said.getvalue()
    assert "1,000 = 995 answered + 1 failed + 2 expired + 1 dropped + 1 pending" in said.getvalue()


def test_scores_are_printed_beside_their_recomputation(said: io.StringIO) -> None:
    """Both models, with their versions, on the number of flights they were compared on."""
    report.show_scores(replace(EVIDENCE, recomputed=Pair(Scores(970, 0.19, 0.5), Scores(970, 0.17, 0.76))), ("1", "2"))
    text = said.getvalue()
    assert "970 flights" in text
    for figure in ("0.180000", "0.190000  0.5000", "0.170000  0.7600"):
        assert figure in text


@pytest.mark.parametrize(
    ("total", "steps", "lines"),
    [
        (100, [10] * 10, ["10 of 100", "50 of 100", "90 of 100"]),
        (100, [5] * 20, ["10 of 100", "90 of 100"]),
        (28_000, [14_000, 14_000], ["14,000 of 28,000"]),
        (3, [1, 1, 1], ["1 of 3", "2 of 3"]),
        (1, [1], []),
    ],
)
def test_progress_without_a_terminal_is_a_line_per_tenth(
    said: io.StringIO, total: int, steps: list[int], lines: list[str]
) -> None:
    """At most nine lines, whatever the number of steps; the end says how many there were."""
    with show.progress("Replayed", total) as advance:
        for more in steps:
            advance(more)
    text = said.getvalue()
    assert all(line in text for line in lines)
    assert text.count(" of ") <= 9
    assert f"✓ Replayed {total:,} in" in text


def test_a_step_that_fails_is_not_ticked(said: io.StringIO) -> None:
    """The tick stands only behind what was done."""
    with pytest.raises(ValueError, match="no"), show.step("Try"):
        raise ValueError("no")
    assert "✓" not in said.getvalue()
    with show.step("Try again"):
        pass
    assert "✓ Try again" in said.getvalue()
