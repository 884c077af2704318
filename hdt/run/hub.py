"""Runs as data set repositories of the Hugging Face hub: pushed with card, licence and metadata, and pulled back.

A repository holds the files of a run folder, but for its state, which has real rows in it. Paths of the machine that
made it stay behind, and so does what was drawn from the real series. ``synthetic.parquet`` is what the hub's viewer
shows; ``croissant.json`` describes it in Croissant 1.0 (arXiv 2403.19546).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from hdt.data.registry import find
from hdt.distillation.methods import METHODS
from hdt.run import records
from hdt.run.distilled import Distilled, check_target, own_files
from hdt.system import folders
from hdt.system.errors import InputError, first_line, require
from hdt.version import __version__

CROISSANT = "croissant.json"
NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.-]*")  # of a licence, as the hub writes them
UNCHANGED = re.compile(r"\bnd\b|no.?deriv", re.IGNORECASE)  # licences of what may be handed on as it is only
CLIENTS = ("httpx", "httpx2", "requests", "huggingface_hub")  # whose errors are the hub's or the network's
TAGS = ["time-series", "forecasting", "dataset-distillation", "synthetic", "hdt"]
TERMS = (
    "citeAs column equivalentProperty extract field fileObject fileProperty fileSet format includes isLiveDataset "
    "jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source "
    "subField transform"
)  # of Croissant, under their own names
CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo",
    **{term: f"cr:{term}" for term in TERMS.split()},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{name: {"@id": f"cr:{name}", "@type": "@json"} for name in ("data", "examples")},
}  # fmt: skip


class NoLicence(InputError):
    """Nothing tells under which licence the source is."""


@dataclass(frozen=True)
class Shared:
    """What is pushed: ``files`` by name, of the run in ``folder``; ``url`` where it lies then."""

    repository: str
    licence: str
    files: dict[str, int]
    card: str
    url: str


def licence_of(distilled: Distilled, given: str | None, private: bool) -> str:
    """The licence of the source: what is ``given``, or what the registry knows.

    Raises :class:`InputError` where neither tells, and for one that forbids to hand on what was changed, unless the
    repository is ``private``.
    """
    require(given is None or bool(re.match(r"\w", given)), f"licence {given!r}: expected a name, such as cc-by-4.0")
    data = distilled.info.data
    entry = find(data.source or "") or find(data.name)
    known = None if entry is None or entry.licence == "none stated" else entry.licence
    found = given or known
    if found is None:
        raise NoLicence(
            f"under which licence is {data.name}? It binds a set distilled from it, too: give --license, such as "
            "cc-by-4.0, cc0-1.0, or its name in words"
        )
    for each in (known, found):
        require(
            private or each is None or not UNCHANGED.search(each),
            f"the licence of {data.name}, {each}, allows unmodified copies only, so that a set distilled from it is "
            "for your own use; push it with --private",
        )
    return found


def _identifier(licence: str) -> str | None:
    """A licence as the hub writes it, where it has a name there."""
    short = licence.lower().replace(" ", "-") if licence.startswith("CC ") else licence
    return short if IDENTIFIER.fullmatch(short) else None


def _front(distilled: Distilled, licence: str) -> str:
    """The head of the card, which the hub reads."""
    count = distilled.values.shape[0] * distilled.values.shape[1]
    known = _identifier(licence)
    told = {
        "license": known or "other", **({} if known else {"license_name": licence}),
        "pretty_name": f"{distilled.info.data.name}, distilled by {distilled.info.settings.method}",
        "task_categories": ["time-series-forecasting"], "tags": TAGS,
        "size_categories": ["n<1K" if count < 1000 else "1K<n<10K" if count < 10_000 else "10K<n<100K"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": records.SERIES}]}],
    }  # fmt: skip
    return f"---\n{yaml.safe_dump(told, sort_keys=False, allow_unicode=True)}---\n"


def croissant(distilled: Distilled, series: bytes, repository: str, licence: str, url: str) -> dict[str, Any]:
    """Metadata of the series, ``synthetic.parquet``, in Croissant 1.0."""
    import io

    import pyarrow.parquet as pq

    info = distilled.info
    fields = []
    for field in pq.read_schema(io.BytesIO(series)):
        if field.name.startswith("__index_level_"):  # placeholders without a name, which readers call differently
            continue
        kind = "sc:Float" if str(field.type) in ("double", "float") else "sc:Integer"
        kind = "sc:DateTime" if str(field.type).startswith("timestamp") else kind
        kind = "sc:Text" if "string" in str(field.type) else kind
        source = {"fileObject": {"@id": records.SERIES}, "extract": {"column": field.name}}
        fields.append(
            {
                "@type": "cr:Field", "@id": f"series/{field.name}", "name": field.name, "dataType": kind,
                "source": source,
            }
        )  # fmt: skip
    file = {
        "@type": "cr:FileObject", "@id": records.SERIES, "name": records.SERIES,
        "contentUrl": f"{url}/resolve/main/{records.SERIES}", "encodingFormat": "application/x-parquet",
        "sha256": hashlib.sha256(series).hexdigest(),
    }  # fmt: skip
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": repository.split("/")[1],
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "description": f"{info.data.name} distilled to {info.settings.length} synthetic steps by "
        f"{info.settings.method}: made to train forecasters, no record of anything that happened.",
        "license": licence,
        "citeAs": METHODS[info.settings.method].citation if info.settings.method in METHODS else "",
        "datePublished": date.today().isoformat(),
        "version": __version__,
        "url": url,
        "distribution": [file],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "series", "name": "series", "field": fields}],
    }


def anonymous(distilled: Distilled) -> Distilled:
    """The same without paths of this machine: the source is a name of the registry, or nothing."""
    data = distilled.info.data
    sources = [each for each in (data.source, *(part.source for part in data.parts)) if each is not None]
    ours = data.source if data.source is not None and find(data.source) is not None else None
    notices = data.notices
    for folder in {os.path.dirname(each) for each in sources} - {""}:
        notices = [notice.replace(folder + os.sep, "") for notice in notices]
    told = {
        "source": ours, "name": data.name if ours else Path(data.name).name, "notices": notices,
        "parts": [part.model_copy(update={"source": None}) for part in data.parts],
    }  # fmt: skip
    info = distilled.info.model_copy(update={"data": data.model_copy(update=told)})
    return replace(distilled, info=info, kept=None, panel=None)


@contextmanager
def prepared(run: Path, repository: str, licence: str | None, private: bool) -> Iterator[tuple[Path, Shared]]:
    """A folder with all that is pushed, and what it is; raises :class:`InputError` for what cannot be."""
    require(
        NAME.fullmatch(repository) is not None,
        f"repository {repository!r}: expected OWNER/NAME of letters, digits, '-', '_' and '.'",
    )
    distilled = Distilled.load(run)
    found = licence_of(distilled, licence, private)
    url = f"{_endpoint()}/datasets/{repository}"
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        anonymous(distilled).save(folder)
        if (run / records.EVALUATION).is_file():
            shutil.copyfile(run / records.EVALUATION, folder / records.EVALUATION)
        card = folder / records.CARD
        text = card.read_text(encoding="utf-8").replace(
            "## Use\n", f"## Use\n\n`hdt pull {repository}` fetches it.\n", 1
        )
        card.write_text(_front(distilled, found) + text, encoding="utf-8")
        told = croissant(distilled, (folder / records.SERIES).read_bytes(), repository, found, url)
        (folder / CROISSANT).write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
        files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
        yield folder, Shared(repository, found, files, card.read_text(encoding="utf-8"), url)


def push(
    run: str | Path, repository: str, *, licence: str | None = None, private: bool = False, force: bool = False,
    dry_run: bool = False,
) -> Shared:  # fmt: skip
    """Put a run into a data set repository, OWNER/NAME, which is made where there is none.

    ``licence`` is that of the source, by default the registry's. A repository that holds something is refused; with
    ``force`` one that holds a run gets this one as its next version. ``dry_run``: reach nothing, tell what would be
    pushed. The hub and the token are those of huggingface_hub (``hf auth login``, HF_TOKEN, HF_ENDPOINT). Raises
    :class:`hdt.system.errors.InputError`.
    """
    with prepared(Path(run), repository, licence, private) as (folder, shared):
        if dry_run:
            return shared
        with _reached(repository) as api:
            api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
            there = {name for name in api.list_repo_files(repository, repo_type="dataset") if name != ".gitattributes"}
            if there:
                require(
                    records.RUN in there,
                    f"{shared.url} holds {', '.join(sorted(there)[:3])} and no run; choose another name",
                )
                require(force, f"{shared.url} holds a run; choose another name, or push a new version with --force")
            api.upload_folder(
                repo_id=repository, folder_path=folder, repo_type="dataset",
                commit_message=f"{shared.card.split('# ', 1)[1].splitlines()[0]}, by hdt {__version__}",
            )  # fmt: skip
    return shared


def pull(repository: str, out: str | Path, *, revision: str | None = None, force: bool = False) -> Distilled:
    """A run from a data set repository, written into the folder ``out`` when all of it was checked.

    Nothing in it is executed: numbers come as parquet, safetensors and JSON, and the report is drawn here. Raises
    :class:`hdt.system.errors.InputError`.
    """
    require(NAME.fullmatch(repository) is not None, f"repository {repository!r}: expected OWNER/NAME")
    out = Path(out)
    check_target(out, force)
    with folders.one_move(out, "run", own_files, force) as scratch:
        with _reached(repository) as api:
            there = set(api.list_repo_files(repository, repo_type="dataset", revision=revision))
            lacking = [name for name in records.FILES if name not in there]
            require(not lacking, f"{repository} is no run of hdt: it lacks {', '.join(lacking)}")
            for name in (*records.FILES, records.EVALUATION):
                if name in there:
                    file = api.hf_hub_download(repository, name, repo_type="dataset", revision=revision)
                    shutil.copyfile(file, scratch / name)
        try:
            distilled = Distilled.load(scratch)
        except InputError as error:
            raise InputError(f"{repository}: {str(error).replace(f'{scratch}{os.sep}', '')}") from None
        from hdt.run import report

        (scratch / records.PAGE).write_text(report.page(distilled, scratch, out), encoding="utf-8")
    return Distilled.load(out)


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


@contextmanager
def _reached(repository: str) -> Iterator[Any]:
    """The hub's interface; what goes wrong there ends as :class:`InputError`."""
    try:
        from huggingface_hub import HfApi, utils
    except ImportError as error:
        raise InputError("huggingface_hub is not installed; pip install 'hdt-ts[hub]'") from error
    quiet = utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        yield HfApi(endpoint=_endpoint())
    except InputError:
        raise
    except Exception as error:
        if not isinstance(error, OSError | ValueError) and type(error).__module__.partition(".")[0] not in CLIENTS:
            raise
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        remedy = {
            None: "see that this machine reaches it; HF_ENDPOINT names another hub",
            401: "log in with 'hf auth login', or set HF_TOKEN to a token that may write there",
            403: "its owner, or your token, does not allow that",
            404: "there is none of that name, or only for those who are logged in",
        }
        raise InputError(
            f"{_endpoint()}/datasets/{repository}: {first_line(error)}; {remedy.get(status, 'try again later')}"
        ) from error
    finally:
        if not quiet:
            utils.enable_progress_bars()
