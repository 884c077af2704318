"""Pushing to and pulling from a stub of the hub's HTTP interface."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import yaml
from conftest import Result, make_frame, refused

import hdt
from hdt.run import hub, records

pytest.importorskip("huggingface_hub")
SMALL = {"length": 48, "context": 12, "horizon": 6, "iterations": 2, "method": "wiener", "options": {"draws": 1}}


@dataclass
class Stub:
    """What the hub holds, by repository, and what was asked of it."""

    url: str
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    stub: ClassVar[Stub]

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.split("?")[0]
        self.stub.asked.append(f"{self.command} {path}")
        if self.headers.get("authorization") != "Bearer hf_good":
            return self.send(401, {"error": "Invalid username or password."})
        if path == "/api/validate-yaml":
            return self.send(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            told = json.loads(body)
            name = f"{told['organization']}/{told['name']}"
            self.stub.private.setdefault(name, told.get("private", told.get("visibility") == "private"))
            fresh = name not in self.stub.repositories
            self.stub.repositories.setdefault(name, {".gitattributes": b""})
            return self.send(200 if fresh else 409, {"url": f"{self.stub.url}/datasets/{name}"})
        _, *words = path.split("/")
        api = words[0] == "api"
        name, what = "/".join(words[1 + api : 3 + api]), words[3 + api : 4 + api]
        files = self.stub.repositories.get(name)
        if files is None:
            return self.send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if what == ["tree"]:
            return self.send(
                200, [{"type": "file", "path": p, "size": len(b), "oid": sha(b)} for p, b in files.items()]
            )
        if what == ["preupload"]:
            asked = [each["path"] for each in json.loads(body)["files"]]
            return self.send(
                200, {"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in asked]}
            )
        if what == ["commit"]:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self.send(
                200,
                {
                    "success": True,
                    "commitOid": "1" * 40,
                    "commitUrl": f"https://huggingface.co/datasets/{name}/commit/1",
                },
            )
        content = files.get("/".join(words[5:]))
        if content is None:
            return self.send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        self.send(200, content, {"X-Repo-Commit": sha(b"".join(files.values())), "ETag": f'"{sha(content)}"'})

    do_GET = do_POST = do_HEAD = answer

    def send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def sha(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stub]:
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.stub = Stub(f"http://127.0.0.1:{listening.server_port}")
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", Handler.stub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield Handler.stub
    listening.shutdown()
    listening.server_close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was made from a table in a folder whose name is nobody's business."""
    private = tmp_path_factory.mktemp("home-of-bob")
    make_frame(200).rename_axis("date").to_csv(private / "load.csv")
    hdt.distill(private / "load.csv", **SMALL).save(private / "made", state=True)
    return private / "made"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made"))


def test_what_is_pushed_comes_back(folder: Path, server: Stub, run: Any) -> None:
    (folder / records.EVALUATION).write_text("[]", encoding="utf-8")
    result = run("push", str(folder), "me/load", "--license", "cc-by-4.0")
    assert result.code == 0 and result.out.strip() == f"{server.url}/datasets/me/load"
    files = server.repositories["me/load"]
    assert set(files) == {*records.FILES, records.EVALUATION, records.PAGE, hub.CROISSANT, ".gitattributes"}
    for name, content in files.items():  # nothing of where it was made, and no real rows
        assert b"home-of-bob" not in content, name
    assert b"home-of-bob" in (folder / records.RUN).read_bytes()
    result = run("pull", "me/load", "--out", "back")
    assert result.code == 0 and "back/report.html" in result.out
    own, back = hdt.Distilled.load(folder), hdt.Distilled.load("back")
    assert (own.values == back.values).all() and own.info.settings == back.info.settings
    pd.testing.assert_frame_equal(own.to_frame(), back.to_frame())
    assert back.info.data.source is None and back.info.data.name == "load.csv"
    assert not Path("back", records.STATE).exists() and Path("back", records.EVALUATION).exists()
    head = yaml.safe_load(files[records.CARD].decode().split("---\n")[1])
    assert head["license"] == "cc-by-4.0" and "license_name" not in head
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "synthetic.parquet"}]
    assert "`hdt pull me/load` fetches it" in files[records.CARD].decode()
    refused(run("pull", "me/load", "--out", "back"), "back exists; choose another --out, or replace it with --force")
    assert run("pull", "me/load", "--out", "back", "--force").code == 0


def test_a_version_replaces_another_only_when_asked_and_nothing_foreign(folder: Path, server: Stub, run: Any) -> None:
    push = ("push", str(folder), "me/load", "--license", "mit")
    assert run(*push).code == 0
    refused(run(*push), "holds a run; choose another name, or push a new version with --force")
    assert run(*push, "--force").code == 0
    server.repositories["me/other"] = {"train.csv": b"precious", "README.md": b"mine"}
    before = dict(server.repositories["me/other"])
    refused(
        run("push", str(folder), "me/other", "--license", "mit", "--force"), "holds README.md, train.csv and no run"
    )
    assert server.repositories["me/other"] == before


def test_the_licence_of_the_source_binds(folder: Path, server: Stub, run: Any) -> None:
    refused(run("push", str(folder), "me/load"), "under which licence is load.csv?")
    refused(run("push", str(folder), "me/load", "--license", "cc-by-nd-4.0"), "allows unmodified copies only")
    refused(run("push", str(folder), "me/load", "--license", "--dry-run"), "licence '--dry-run': expected a name")
    refused(run("push", str(folder), "me/load", "--license", ""), "licence '': expected a name")
    assert server.asked == []
    told = json.loads(run("push", str(folder), "me/load", "--license", "our own terms", "--dry-run", "--json").out)
    assert told["license"] == "our own terms" and told["pushed"] is False and server.asked == []
    text = run("push", str(folder), "me/load", "--license", "our own terms", "--dry-run").out
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["license"] == "other" and head["license_name"] == "our own terms"
    assert run("push", str(folder), "me/load", "--license", "cc-by-nd-4.0", "--private").code == 0
    assert server.private == {"me/load": True}


def test_the_registrys_licence_is_known(server: Stub, run: Any) -> None:
    hdt.distill("co2", method="random", iterations=0).save("made")
    data = hdt.Distilled.load("made").info.data
    assert json.loads(run("push", "made", "me/co2", "--dry-run", "--json").out)["license"] == "public domain"
    nd = json.loads(Path("made", records.RUN).read_text())
    nd["data"]["source"] = nd["data"]["name"] = "ETTh1"
    Path("made", records.RUN).write_text(json.dumps(nd))
    refused(run("push", "made", "me/co2", "--license", "mit"), "the licence of ETTh1, CC BY-ND 4.0, allows unmodified")
    assert data.source == "co2"


@pytest.mark.parametrize(
    ("repository", "token", "message"),
    [
        ("load", "hf_good", "repository 'load': expected OWNER/NAME"),
        ("me/../x", "hf_good", "expected OWNER/NAME"),
        ("me/none", "hf_good", "there is none of that name"),
        ("me/none", "hf_bad", "log in with 'hf auth login'"),
        ("me/short", "hf_good", "is no run of hdt: it lacks params.safetensors"),
        ("me/bad", "hf_good", "run.json: content: Invalid JSON"),
    ],
)
def test_what_cannot_be_pulled_leaves_nothing(
    repository: str, token: str, message: str, server: Stub, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.repositories["me/short"] = {"synthetic.parquet": b"x"}
    server.repositories["me/bad"] = dict.fromkeys(records.FILES, b"x")
    monkeypatch.setenv("HF_TOKEN", token)
    result: Result = run("pull", repository, "--out", "back")
    refused(result, message)
    assert not Path("back").exists() and not list(Path().glob(".back*"))


def test_a_hub_that_does_not_answer(folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused(run("push", str(folder), "me/load", "--license", "mit"), "HF_ENDPOINT names another hub")


def test_the_metadata_is_croissant(folder: Path, tmp_path: Path) -> None:
    with hub.prepared(folder, "me/load", "cc-by-4.0", False) as (made, shared):
        told = json.loads((made / hub.CROISSANT).read_text(encoding="utf-8"))
        shutil.copytree(made, tmp_path / "copy")
    fields = {each["name"]: each["dataType"] for each in told["recordSet"][0]["field"]}
    assert fields == {"load": "sc:Float", "wind": "sc:Float", "date": "sc:DateTime"}
    (file,) = told["distribution"]
    assert file["sha256"] == hashlib.sha256((tmp_path / "copy" / records.SERIES).read_bytes()).hexdigest()
    assert file["contentUrl"].startswith(shared.url)
    mlcroissant = pytest.importorskip("mlcroissant")
    told["distribution"][0]["contentUrl"] = records.SERIES
    (tmp_path / "copy" / hub.CROISSANT).write_text(json.dumps(told))
    data = mlcroissant.Dataset(jsonld=str(tmp_path / "copy" / hub.CROISSANT))
    assert len(list(data.records("series"))) == 48
