"""YAML as version 1.2 reads it: `1e-3` is a number, `010` is ten, `yes` is a word."""

from __future__ import annotations

import re
from typing import Any

import yaml

from hdt.system.errors import InputError


class Loader(yaml.SafeLoader):
    """YAML 1.2's plain values: ``1e-3`` is a number, ``010`` is ten; no octals, base sixty, dates or ``yes``."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # declared so by yaml

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        return int(self.construct_scalar(node))


class Dumper(yaml.SafeDumper):
    """Quotes whatever a reader of YAML 1.1 or 1.2 would take for something else than text."""


for _kind, _pattern, _first in (
    ("null", r"(null|Null|NULL|~|)$", [*"nN~", ""]),
    ("bool", r"(true|True|TRUE|false|False|FALSE)$", [*"tTfF"]),
    ("int", r"[-+]?[0-9]{1,100}$", [*"-+0123456789"]),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$", [*"-+.0123456789"]),
    ("float", r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$", [*"-+."]),
):
    for _class in (Loader, Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), _first)
Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)


def read_yaml(text: str, place: str) -> Any:
    """YAML without surprises (:class:`Loader`); what is none ends in one line that begins with ``place``."""
    try:
        return yaml.load(text, Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise InputError(f"{place}: cannot be read as YAML ({reason})") from None
