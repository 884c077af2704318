from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_frame

from hdt import datasets, registry
from hdt.errors import InputError
from hdt.series import Panel


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
    assert again.borders == panel.borders and again.train_sha256() == panel.train_sha256()
    assert isinstance(again, Panel)
