"""Settings as text: recipes, `name=value` options, and the command line that repeats a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hdt.distillation.config import Settings, marked, resolve, shortened
from hdt.distillation.methods import METHODS
from hdt.system.errors import InputError, require
from hdt.system.options import FLAG
from hdt.system.yaml12 import Dumper, read_yaml

REPEATED = ("known", "past", "static", "calendar")  # flags that are given once for every column
NAMED = ("method", "length", "context", "horizon", "seed")  # said in every command


def number_or(word: str, name: str, text: str) -> int | float | str:
    """The value of a flag that takes a number or one ``word``."""
    value = read_yaml(text, f"--{name} {text}")
    require(
        value == word or (isinstance(value, int | float) and not isinstance(value, bool)),
        f"--{name} {text}: expected a number or {word}",
    )
    return value


def parse_options(pairs: list[str] | None) -> dict[str, Any]:
    """``name=value`` texts as settings; values are read as YAML."""
    result = {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        value = read_yaml(text, f"--option {pair}")
        require(bool(name and equals) and value is not None, f"--option {pair}: expected name=value")
        result[name] = value
    return result


def read_recipe(path: Path) -> tuple[str | None, dict[str, Any]]:
    """The data set of a recipe file, and its settings and loading options as :func:`hdt.distill` takes them."""
    require(path.is_file(), f"{path}: no such recipe")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text in UTF-8 ({error.reason})") from None
    content = read_yaml(text, str(path))
    require(isinstance(content, dict), f"{path}: expected settings, one 'name: value' per line")
    known = {"data", "load", *Settings.model_fields}
    unknown = [str(name) for name in content if name not in known]
    require(not unknown, f"{path}: unknown setting {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    data, load, options = content.pop("data", None), content.pop("load", {}), content.pop("options", {})
    require(data is None or isinstance(data, str), f"{path}: data={shortened(data)}: expected a name or a path")
    named = [isinstance(part, dict) and all(isinstance(name, str) for name in part) for part in (load, options)]
    require(all(named), f"{path}: 'load' and 'options' hold 'name: value'")
    twice = [name for name in {**load, **options} if name in known] + [name for name in load if name in options]
    require(
        not twice, f"{path}: {', '.join(twice)}: stands beside 'load' and 'options' or under one of them, not elsewhere"
    )
    return data, {**content, **load, **options}


def recipe_files() -> list[Path]:
    """The recipes of distillations that come with hdt: in the package when installed, beside it in a checkout."""
    here = Path(__file__).parents[1]
    folder = here / "recipes" if (here / "recipes").is_dir() else here.parent / "recipes"
    recipes = sorted(folder.glob("*.yaml"))
    return [path for path in recipes if path.read_text(encoding="utf-8").startswith("# hdt recipes run ")]


def recipe_file(name: str) -> Path:
    """The recipe of that name, or a one-line error that lists them."""
    known = {path.stem: path for path in recipe_files()}
    require(name in known, f"unknown recipe {name!r}; known: {', '.join(known)}")
    return known[name]


def write_recipe(settings: Settings, data: str, load_options: Mapping[str, Any], command: str) -> str:
    """The YAML text of a recipe; its first line is the exact command."""
    content = {"data": data, "load": dict(load_options), **settings.model_dump()}
    return f"# {command}\n{yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True)}"


def command(settings: Settings, data: str, load_options: Mapping[str, Any], real_channels: int | None = None) -> str:
    """The command line that resolves to these settings, whose size and seed it always names: defaults may change."""
    pair = {"objective": settings.objective, "parameterization": settings.parameterization}
    usual = resolve(data, real_channels, method=settings.method, **pair)
    defaults = {**usual.model_dump(), **{name: getattr(METHODS[settings.method], name) for name in pair}}
    words, flags = ["hdt", "distill", data], marked(settings, FLAG)
    for name, value in settings.model_dump(exclude={"options"}).items():
        if name in NAMED or value != defaults.get(name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    for name, value in settings.options.items():
        if value != usual.options.get(name):
            words += [f"--{name.replace('_', '-')}", str(value)] if name in flags else ["--option", f"{name}={value}"]
    for name, value in load_options.items():
        if name == "dayfirst":
            words.append("--dayfirst" if value else "--monthfirst")
            continue
        if name in REPEATED:
            words += [word for column in value for word in (f"--{name}", str(column))]
            continue
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)
