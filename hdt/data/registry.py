"""The benchmark data sets: where each comes from, its checksums, borders, licence and what to try first.

Licences and origins are told at length in ``data/README.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

from hdt.system.errors import InputError

TSLIB = "https://huggingface.co/datasets/thuml/Time-Series-Library/resolve/main"
ETT = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small"
M4 = "https://raw.githubusercontent.com/Mcompetitions/M4-methods/master/Dataset/Train"
LSTNET = "https://raw.githubusercontent.com/laiguokun/multivariate-time-series-data/master"


@dataclass(frozen=True)
class Source:
    """One public file: its address and its checksums, each ``sha256:<hex>`` or ``git:<blob id>``.

    Several checksums name known renderings of the same table (line endings). A ``headerless`` file holds
    values only; its stamps are rebuilt from the data set's start and step. With ``series_in_rows`` each line is a
    series, its name first, of as many numbers as it has. ``local``: what the file is called here, if not as there.
    """

    url: str
    checksums: tuple[str, ...]
    headerless: bool = False
    series_in_rows: bool = False
    local: str = ""

    @property
    def filename(self) -> str:
        return self.local or self.url.rsplit("/", 1)[1]


@dataclass(frozen=True)
class Dataset:
    """A registry entry: where it comes from, how it is split and what to try first."""

    name: str
    about: str
    shape: tuple[int, int]
    step: str
    start: str
    licence: str
    sources: tuple[Source, ...] = ()
    borders: tuple[int, int, int] | None = None
    context: int = 96
    horizon: int = 96
    length: int = 384
    sentinel: float | None = None
    rebuild_index: bool = False


def _ett(name: str, step: str, rows: int, scale: int, *checksums: str) -> Dataset:
    source = Source(f"{ETT}/{name}.csv", checksums)
    borders = (8640 * scale, 11520 * scale, 14400 * scale)
    about = "electricity transformer temperature and loads"
    return Dataset(name, about, (rows, 7), step, "2016-07-01", "CC BY-ND 4.0", (source,), borders)


def _m4(
    kind: str, step: str, about: str, shape: tuple[int, int], checksum: str, context: int, horizon: int, length: int
) -> Dataset:
    source = Source(f"{M4}/{kind}-train.csv", (checksum,), series_in_rows=True, local=f"M4_{kind}-train.csv")
    about = f"{about}, the training part of the M4 competition"
    return Dataset(
        f"M4-{kind}", about, shape, step, "", "none stated", (source,), context=context, horizon=horizon, length=length
    )


REGISTRY: dict[str, Dataset] = {
    d.name: d
    for d in (
        Dataset(
            "co2", "weekly atmospheric CO2 at Mauna Loa, with real gaps; embedded, works offline",
            (2284, 1), "7D", "1958-03-29", "public domain", context=52, horizon=26, length=208,
        ),
        _ett("ETTh1", "1h", 17420, 1,
             "sha256:f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"),
        _ett("ETTh2", "1h", 17420, 1,
             "sha256:a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b",
             "git:6e3760778598fdee5208213d3fce122637307eec"),
        _ett("ETTm1", "15min", 69680, 4,
             "sha256:6ce1759b1a18e3328421d5d75fadcb316c449fcd7cec32820c8dafda71986c9e"),
        _ett("ETTm2", "15min", 69680, 4,
             "sha256:db973ca252c6410a30d0469b13d696cf919648d0f3fd588c60f03fdbdbadd1fd",
             "git:f9d46027c987d442d2d8f81308d1d8c4d1d35db8"),
        Dataset(
            "Electricity", "hourly consumption of 321 clients (UCI ElectricityLoadDiagrams)",
            (26304, 321), "1h", "2012-01-01", "CC BY 4.0 (UCI)",
            (
                Source(f"{TSLIB}/electricity/electricity.csv",
                       ("sha256:7e45845d54c5219bad0ae6bc1b5316cf8ff9cead5d33fa998a5a51c2e4a497ad",)),
                Source(f"{LSTNET}/electricity/electricity.txt.gz",
                       ("git:df158a9fff65428ece107200432a72c992d5e4e9",), headerless=True),
            ),
        ),
        Dataset(
            "Traffic", "hourly occupancy of 862 San Francisco road sensors (PeMS)",
            (17544, 862), "1h", "2015-01-01", "California Department of Transportation, no licence stated",
            (
                Source(f"{TSLIB}/traffic/traffic.csv",
                       ("sha256:cb06463d56fa17d87f47027cd9389ceae82a69eddee51cdb61480e120dab0b16",)),
                Source(f"{LSTNET}/traffic/traffic.txt.gz",
                       ("git:63ddb74bf7602568f36056a0b1a47aa407f0a6fe",), headerless=True),
            ),
        ),
        Dataset(
            "Weather", "10-minute weather of 2020 at the MPI for Biogeochemistry, Jena",
            (52696, 21), "10min", "2020-01-01 00:10", "MPI-BGC Jena, free with attribution",
            (Source(f"{TSLIB}/weather/weather.csv",
                    ("sha256:34ee981d07313e51da2a50bb600072c8ae4a69cb4b0651f4cb93a069d7a2ba63",)),),
            sentinel=-9999.0, rebuild_index=True,
        ),
        Dataset(
            "Weather-raw", "the same as papers use it: 81 cells of -9999 are values; to be held against their figures",
            (52696, 21), "10min", "2020-01-01 00:10", "MPI-BGC Jena, free with attribution",
            (Source(f"{TSLIB}/weather/weather.csv",
                    ("sha256:34ee981d07313e51da2a50bb600072c8ae4a69cb4b0651f4cb93a069d7a2ba63",)),),
            rebuild_index=True,
        ),
        Dataset(
            "Exchange", "daily exchange rates of eight currencies, 1990 to 2010",
            (7588, 8), "1D", "1990-01-01", "no licence stated",
            (
                Source(f"{TSLIB}/exchange_rate/exchange_rate.csv",
                       ("sha256:48b4d9d3d508f5104162e85b9a6042e3557fde11aa9f2944eba8c0d0efc89842",
                        "sha256:d55e7aa2641009814a18ba3279431b13f6d413b0eab195b9ff21988d8cf94e97")),
                Source(f"{LSTNET}/exchange_rate/exchange_rate.txt.gz",
                       ("git:d72d0d7a5d5d06ecd1cf4c79396180b2962be101",), headerless=True),
            ),
        ),
        Dataset(
            "ILI", "weekly influenza-like illness in the United States (CDC)",
            (966, 7), "7D", "2002-01-01", "US government work, public domain",
            (Source(f"{TSLIB}/illness/national_illness.csv",
                    ("sha256:93601f64d2566dc796ca4305adad8b8560c2db1a1ff04543c3bd813a7263570a",)),),
            context=36, horizon=24, length=144,
        ),
        Dataset(
            "Solar", "10-minute output of 137 Alabama solar plants in 2006 (NREL)",
            (52560, 137), "10min", "2006-01-01", "NREL, free with attribution",
            (Source(f"{LSTNET}/solar-energy/solar_AL.txt.gz",
                    ("git:08a1f235546b3708309ff4fb544a54bb82e4f5e7",), headerless=True),),
        ),
        _m4("Hourly", "1h", "414 series of 700 to 960 hours", (960, 414),
            "sha256:ea59b7783573c49077a835ab6465c7d66f1474783360f310988a9a737fbca62f", 96, 48, 384),
        _m4("Weekly", "7D", "359 series of 80 to 2,597 weeks", (2597, 359),
            "sha256:d478d3f6ed673e6ed3c2cb0fbed5425f72eedd51318ebebeb0b5ecfcefc37714", 52, 13, 260),
    )
}  # fmt: skip


def find(name: str) -> Dataset | None:
    """The registry entry of that name, in any case."""
    return next((entry for key, entry in REGISTRY.items() if key.lower() == name.lower()), None)


def entry(name: str) -> Dataset:
    """The registry entry of that name, or a one-line error that lists them."""
    found = find(name)
    if found is None:
        raise InputError(f"unknown data set {name!r}; known: {', '.join(REGISTRY)}")
    return found
