from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_frame

from hdt.data import datasets, registry
from hdt.data.series import Panel
from hdt.system.errors import InputError


@pytest.fixture
def nothing_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data folder but an empty one, and no network."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    monkeypatch.delenv("HDT_DATA_DIR", raising=False)
    monkeypatch.setattr(datasets, "download_folders", lambda: [folder])
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return folder


def test_the_embedded_set_needs_no_file_and_has_its_real_gaps(nothing_local: Path) -> None:
    panel = datasets.load("co2")
    assert panel.values.shape == registry.REGISTRY["co2"].shape
    assert np.isnan(panel.values).sum() == 59
    assert any("missing train values" in notice for notice in panel.notices)
    assert np.isfinite(panel.part("train")).all()


def test_names_are_found_in_any_case() -> None:
    assert registry.find("etth1") is registry.REGISTRY["ETTh1"]


def test_every_registry_entry_is_complete() -> None:
    for entry in registry.REGISTRY.values():
        assert entry.length >= entry.context + entry.horizon, entry.name
        assert entry.licence and entry.about and entry.shape[0] > entry.length
        assert bool(entry.sources) == (entry.name != "co2")
        for source in entry.sources:
            assert source.url.startswith("https://")
            for checksum in source.checksums:
                kind, digest = checksum.split(":")
                assert len(digest) == {"sha256": 64, "git": 40}[kind]
                int(digest, 16)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown data set 'ETTh9'; known: co2, ETTh1, ETTh2"):
        datasets.load("ETTh9")


@pytest.mark.parametrize("name", ["ETTh1", "ETTm1", "Weather", "Exchange"])
def test_real_files_load_with_their_published_shape(name: str, data_dir: Path) -> None:
    panel = datasets.load(name)
    assert panel.values.shape == registry.REGISTRY[name].shape
    assert np.isfinite(panel.part("test", context=96)).all()


def test_ett_borders_are_the_published_ones(data_dir: Path) -> None:
    assert datasets.load("ETTh1").borders == (8640, 11520, 14400)
    assert datasets.load("ETTm1").borders == (34560, 46080, 57600)


def test_weather_sentinels_are_missing_values(data_dir: Path) -> None:
    panel = datasets.load("Weather")
    assert np.isnan(panel.values).sum() == 81
    assert not (panel.values == -9999).any()
    assert "81 cells of -9999 are missing values" in panel.notices


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ETTh1.csv").write_text("date,OT\n2016-07-01,1\n")
    monkeypatch.setenv("HDT_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError, match=r"ETTh1.csv: checksum mismatch .*delete the file .* or pass its path"):
        datasets.load("ETTh1")


def test_no_network_says_what_to_do(nothing_local: Path) -> None:
    with pytest.raises(InputError, match=r"cannot download ETTh2 .*put ETTh2.csv in a folder and set HDT_DATA_DIR"):
        datasets.load("ETTh2")
    assert list(nothing_local.iterdir()) == []


def serve(content: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pretend that every address answers with ``content``."""
    import pooch

    asked = []

    class Downloader:
        def __init__(self, **_: object) -> None: ...

        def __call__(self, url: str, output_file: str, _: object) -> None:
            asked.append(url)
            Path(output_file).write_bytes(content)

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
    return asked


def test_a_download_is_verified_before_it_is_kept(nothing_local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(b"something else", monkeypatch)
    with pytest.raises(InputError, match="checksum mismatch"):
        datasets.load("ETTh2")
    assert asked and list(nothing_local.iterdir()) == []


def test_a_headerless_download_is_kept_and_gets_its_stamps(
    nothing_local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = gzip.compress(b"\n".join(b"%d,%d" % (i, i % 7) for i in range(300)), mtime=0)
    blob = datasets.checksums(content)[1]
    source = registry.Source("https://example.org/tiny.txt.gz", (blob,), headerless=True)
    entry = registry.Dataset("tiny", "test", (300, 2), "10min", "2006-01-01", "none", (source,))
    monkeypatch.setitem(registry.REGISTRY, "tiny", entry)
    asked = serve(content, monkeypatch)
    for _ in range(2):  # the second time from the kept file
        panel = datasets.load("tiny")
    assert len(asked) == 1
    assert panel.index[1] == pd.Timestamp("2006-01-01 00:10")
    assert any("rebuilt" in notice for notice in panel.notices)


def write_csv(path: Path) -> Path:
    make_frame(300).rename_axis("date").to_csv(path)
    return path


def test_csv_parquet_and_folders_give_the_same_panel(tmp_path: Path) -> None:
    frame = make_frame(300)
    write_csv(tmp_path / "a.csv")
    frame.to_parquet(tmp_path / "a.parquet")
    folder = tmp_path / "parts"
    folder.mkdir()
    frame.iloc[:120].to_parquet(folder / "0.parquet")
    frame.iloc[120:].to_parquet(folder / "1.parquet")
    panels = [datasets.load(tmp_path / name) for name in ("a.csv", "a.parquet", "parts")]
    for panel in panels:
        np.testing.assert_allclose(panel.values, frame.to_numpy())
        assert (panel.index == frame.index).all()
        assert panel.source


def test_a_latin_1_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(make_frame(300, ("°C", "W")).rename_axis("date").to_csv().encode("latin-1"))
    assert datasets.load(path).columns == ("°C", "W")


def european(frame: pd.DataFrame, dates: str = "%d.%m.%Y %H:%M", **how: str) -> str:
    return frame.rename_axis("Zeit").to_csv(
        date_format=dates, lineterminator="\n", **{"sep": ";", "decimal": ",", **how}
    )


def texts(frame: pd.DataFrame) -> dict[str, tuple[str, bytes, str]]:
    """Text tables of one frame: their names, bytes and a word of the notice, if any."""
    plain = frame.rename_axis("date")
    return {
        "commas": ("a.csv", plain.to_csv().encode(), ""),
        "capitals": ("A.CSV", plain.to_csv().encode(), ""),
        "packed": ("a.csv.gz", gzip.compress(plain.to_csv().encode()), ""),
        "semicolons": ("a.csv", plain.to_csv(sep=";").encode(), "semicolons"),
        "European": ("a.csv", european(frame).encode(), "semicolons between columns and decimal commas"),
        "European, of Excel": ("a.csv", b"\xef\xbb\xbf" + european(frame).replace("\n", "\r\n").encode(), "semicolons"),
        "a separator after the last": ("a.csv", european(frame).replace("\n", ";\n").encode(), "no values; dropped"),
        "quoted commas": ("a.csv", european(frame, sep=",").encode(), "decimal commas"),
        "slashes": ("a.csv", european(frame, "%d/%m/%Y %H:%M").encode(), "the day first"),
        "months first": ("a.csv", european(frame, "%m/%d/%Y %H:%M").encode(), "semicolons"),
        "tabs": ("a.tsv", plain.to_csv(sep="\t").encode(), ""),
        "tabs of Excel": ("a.txt", european(frame, sep="\t").encode("utf-16"), "tabs between columns"),
        "tab": ("a.TAB", plain.to_csv(sep="\t").encode(), ""),
        "bars": ("a.txt", plain.to_csv(sep="|").encode(), "bars"),
        "long": (
            "a.csv",
            plain.reset_index().melt("date", var_name="item_id", value_name="target").to_csv().encode(),
            "",
        ),
    }


@pytest.mark.parametrize("kind", texts(make_frame(300)))
def test_text_tables_are_read_as_they_were_written(kind: str, tmp_path: Path) -> None:
    frame = make_frame(300)
    name, content, notice = texts(frame)[kind]
    (tmp_path / name).write_bytes(content)
    panel = datasets.load(tmp_path / name)
    np.testing.assert_allclose(panel.values, frame)
    assert (panel.index == frame.index).all() and panel.columns == ("load", "wind")
    assert notice in "; ".join(panel.notices)
    assert notice or not panel.notices or kind == "long"


@pytest.mark.parametrize(
    ("text", "options", "first"),
    [
        ("date;a\n01/02/2024;1,5\n02/02/2024;2,5\n03/02/2024;3,5\n", {"dayfirst": True}, 1.5),
        ("date,a\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n", {"sep": ",", "decimal": "."}, 1),
        ("date\ta\n2024-01-01\t1,000\n2024-01-02\t2,000\n2024-01-03\t3,000\n", {"sep": "tab", "decimal": ","}, 1),
        ("date#a\n2024-01-01#1\n2024-01-02#2\n2024-01-03#3\n", {"sep": "#"}, 1),
        ("0,1\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n", {"time_column": "0"}, 1),
        ("a\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n", {}, 1),  # as R writes row names
    ],
)
def test_what_is_given_is_not_guessed(text: str, options: dict[str, object], first: float, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    panel = datasets.load(tmp_path / "a.csv", split=(1, 2, 3), **options)
    assert panel.values.shape == (3, 1) and panel.values[0, 0] == first
    assert panel.load_options == {**options, "split": [1, 2, 3]}


STAMPED = "2024-01-01{0}{1}\n2024-01-02{0}{1}\n2024-01-03{0}{1}\n"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (STAMPED.format(",", "5"), {}, r"the first row holds data \(2024-01-01, 5\).* add a row of names above it"),
        ("A," + STAMPED.format(",", "5"), {}, "the first row holds data"),
        ("0,5.5,4\n1,5,3\n2,5,3\n", {}, "the first row holds data"),
        ("01.01.2024;5,5\n02.01.2024;5,5\n", {}, r"the first row holds data \(01.01.2024, 5,5\)"),
        ("date,a,a\n" + STAMPED.format(",", "1,2"), {}, "column 'a' appears twice in the header"),
        ("date,a\n" + STAMPED.format(",", '"1,234"'), {}, "first at row 0: '1,234'.; give --decimal , if commas are"),
        ("date;a\n" + STAMPED.format(";", "1.234,5"), {}, "column 'a' is not numeric"),
        ("date;a\n" + STAMPED.format(";", "5"), {"sep": ","}, "no value columns|no timestamps"),
        ("date;a\n01/02/2024;1\n02/02/2024;1\n", {}, "give --dayfirst or --monthfirst"),
        ("date,a\n", {"sep": ";;"}, "--sep ;;: expected one character"),
        ("date,a\n", {"sep": "a"}, "--sep a: expected one character"),
        ("date,a\n", {"decimal": ";"}, "--decimal ;: expected . or ,"),
        ("date,a\n", {"sep": ",", "decimal": ","}, "--sep and --decimal are both ','"),
        ("date,a\n", {"dayfirst": "perhaps"}, "dayfirst='perhaps': expected true or false"),
    ],
)
def test_texts_that_are_no_tables_or_cannot_be_told_are_refused(
    text: str, options: dict[str, object], message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        datasets.load(tmp_path / "a.csv", **options)


class Foreign:
    """A table of another library, as polars has them."""

    def __init__(self, table: object) -> None:
        self.table = table

    def to_pandas(self) -> object:
        if isinstance(self.table, Exception):
            raise self.table
        return self.table


def test_series_and_tables_of_other_libraries_are_taken() -> None:
    import pyarrow

    frame = make_frame(300)
    stamped = frame.rename_axis("date").reset_index()
    for data in (frame, Foreign(frame), pyarrow.Table.from_pandas(frame), pyarrow.Table.from_pandas(stamped)):
        panel = datasets.load(data)
        np.testing.assert_array_equal(panel.values, frame)
        assert panel.columns == ("load", "wind") and (panel.index == frame.index).all()
    arrow = stamped.convert_dtypes(dtype_backend="pyarrow")
    np.testing.assert_array_equal(datasets.load(arrow).values, frame)
    for series, name in ((frame["load"], "load"), (frame["load"].rename(None), "y"), (Foreign(frame["load"]), "load")):
        panel = datasets.load(series)
        np.testing.assert_array_equal(panel.values[:, 0], frame["load"])
        assert panel.columns == (name,)
    long = frame.rename_axis("ds").stack().swaplevel().sort_index().rename_axis(["unique_id", "ds"])
    np.testing.assert_array_equal(datasets.load(long).values, frame)


@pytest.mark.parametrize(
    ("data", "kind"),
    [(np.zeros((400, 2)), "ndarray"), ({"a": [1]}, "dict"), ([1, 2], "list"), (None, "NoneType"), (Foreign(3), "int")],
)
def test_what_has_no_stamps_is_told_how_to_get_them(data: object, kind: str) -> None:
    with pytest.raises(InputError, match=f"expected a pandas DataFrame, got {kind}; make one with stamps") as caught:
        datasets.load(data)
    hint = str(caught.value).split("such as ")[1]
    made = eval(hint, {"pd": pd, "data": np.arange(800.0).reshape(400, 2)})
    assert datasets.load(made).values.shape == (400, 2)


def test_a_table_that_does_not_turn_into_a_frame_is_refused() -> None:
    with pytest.raises(InputError, match=r"to_pandas of this Foreign failed \(no pyarrow\); give a pandas DataFrame"):
        datasets.load(Foreign(ImportError("no pyarrow")))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "no such file"),
        ("empty.csv", b"", "the file is empty"),
        ("a.parquet", b"not parquet at all", "not a readable parquet table"),
        ("a.csv", b'a,b\n1,2\n1,2,3,4\n"', "not a readable csv table"),
        ("a.xlsx", b"PK", r"expected .csv, .tsv, .tab, .txt, .parquet or a directory"),
        ("header.csv", b"date,a\n", "the table is empty"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        datasets.load(tmp_path / name)


def test_a_folder_without_parquet_or_with_other_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \.parquet files"):
        datasets.load(tmp_path)
    make_frame(30).to_parquet(tmp_path / "0.parquet")
    make_frame(30, ("other",)).to_parquet(tmp_path / "1.parquet")
    with pytest.raises(InputError, match=r"1.parquet: columns differ from those of 0.parquet"):
        datasets.load(tmp_path)


def test_panels_remember_where_they_came_from(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv")
    panel = datasets.load(path, split=(0.6, 0.2, 0.2), missing="error")
    again = datasets.load(panel.source, **panel.load_options)
    assert again.borders == panel.borders and again.train_sha256 == panel.train_sha256
    assert isinstance(again, Panel)
