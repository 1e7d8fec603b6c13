"""YAML as the metadata needs it: no key is lost in silence, and every key is text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tidemark.errors import ConfigError
from tidemark.metadata.config_digest import config_files
from tidemark.metadata.problems import Loc, Problem
from tidemark.suggestions import did_you_mean

_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"


@dataclass
class Document:
    """What a YAML file holds, the line of each key, and what is wrong with its keys."""

    data: object = None
    lines: dict[Loc, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """SafeLoader that leaves as text what YAML 1.1 would turn into something nobody meant."""

    def read_int(self, node: yaml.ScalarNode) -> int | str:
        # 1:30 is 90 in YAML 1.1 (base 60).
        return node.value if ":" in node.value else self.construct_yaml_int(node)

    def read_date(self, node: yaml.ScalarNode) -> object:
        try:
            return self.construct_yaml_timestamp(node)
        except ValueError:  # 2025-02-30: shown as the text that it is
            return node.value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.read_int)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.read_date)


def read_yaml(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        ConfigError: The file can't be read, is empty or is no YAML (with the line).
    """
    try:
        document = _parse(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(f"{path}: {line}is no YAML: {error.problem}") from None
    except FileNotFoundError:
        raise ConfigError(_absent(path)) from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is no YAML: {' '.join(str(error).split())}") from None
    if document.data is None:
        raise ConfigError(f"{path}: is empty; it needs at least 'source' and 'tables'")
    return document


def _absent(path: Path) -> str:
    if not path.parent.is_dir():
        return f"{path}: there is no folder {path.parent}; let TIDEMARK_CONFIG name yours"
    names = [file.stem for file in config_files(path.parent)]
    held = f"holds {', '.join(names)}" if names else "holds no source's file"
    near = did_you_mean(path.stem, names)
    return f"{path}: there is no such file; {path.parent} {held}{near}"


def _parse(text: str) -> Document:
    document = Document()
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            _check(node, (), document, set())
            document.data = loader.construct_document(node)
    finally:
        loader.dispose()
    return document


def _check(node: yaml.Node, loc: Loc, document: Document, seen: set[int]) -> None:
    """Note the line of each key below `node`, and each key that is repeated or not text."""
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _check(item, (*loc, index), document, seen)
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                _check_key(key, loc, document, first)
                _check(value, (*loc, str(key.value)), document, seen)


def _check_key(key: yaml.ScalarNode, loc: Loc, document: Document, first: dict[str, int]) -> None:
    name, line = str(key.value), key.start_mark.line + 1
    here = (*loc, name)
    if name in first:
        text = f"is given twice: in line {first[name]} and in line {line}; remove one"
        document.problems.append(Problem(here, text, has_lines=True))
    elif key.tag not in (_TEXT, _MERGE):
        kind = key.tag.rpartition(":")[2]
        text = f"is a key that YAML reads as {kind}, not text; put it in quotes"
        document.problems.append(Problem(here, text))
    if key.tag != _MERGE:
        key.tag = _TEXT
    document.lines.setdefault(here, line)
    first.setdefault(name, line)
