"""Reading YAML that other people wrote: plain data, with limits, and nothing is executed.

A short file can describe gigabytes (aliases of aliases) or never end (an alias inside its own
anchor), so size, depth, values and what the aliases expand to are counted before a value is built.
Values are null, booleans, numbers, text, lists and mappings.  Dates and base-60 numbers of YAML 1.1
(``1:30`` is 90 there) stay text, as in YAML 1.2.  A key that occurs twice is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .errors import DetError

LIMIT_BYTES = 4 << 20
MAX_DEPTH = 50
MAX_VALUES = 120_000
"""A list of the names of 100,000 classes, and the rest of a file."""
MAX_EXPANDED = 1 << 24
"""Characters of all values with every alias written out."""
MAX_DIGITS = 400
"""A float of more digits is infinite, and no option is a larger whole number."""

_DATE, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("timestamp", "int", "float"))
_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")


class YamlError(DetError):
    """A YAML file that cannot be read.  The message begins with the file and, where known, line and
    column."""


class _Loader(yaml.SafeLoader):
    """Counts while it composes; builds plain data only."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = self._expanded = 0
        self._expands_to: dict[int, int] = {}  # id of a finished node -> characters

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        before = self._expanded
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _error(f"more than {MAX_DEPTH} levels of nesting", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._expands_to:
                raise _error(f"the alias *{event.anchor} is inside its own anchor", event)
            self._expanded += self._expands_to[id(node)]
        else:
            self._expanded += 1 + len(getattr(event, "value", ""))
            self._expands_to[id(node)] = self._expanded - before
        self._values += 1
        if self._values > MAX_VALUES:
            raise _error(f"more than {MAX_VALUES:,} keys and values", event)
        if self._expanded > MAX_EXPANDED:
            raise _error(f"its aliases expand to more than {MAX_EXPANDED:,} characters", event)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise _error(f"the key {key.value[:40]!r} occurs twice", key)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        if len(node.value) > MAX_DIGITS:
            raise _error(f"a number of {len(node.value):,} characters", node)
        read = self.construct_yaml_int if node.tag == _INT else self.construct_yaml_float
        try:
            if ":" not in node.value:
                return read(node)
        except (ValueError, IndexError):
            pass
        raise _error(f"{node.value[:40]!r} is not a number", node)


def _error(problem: str, place: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


def _without_old_words(loader: type[_Loader]) -> None:
    """Take YAML 1.1's dates and base-60 numbers out of what plain text may mean."""
    loader.yaml_implicit_resolvers = {
        first: [
            (tag, re.compile(r"(?![^:]*:)" + pattern.pattern, pattern.flags))
            if tag in (_INT, _FLOAT)
            else (tag, pattern)
            for tag, pattern in resolvers
            if tag != _DATE
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    kept = {f"tag:yaml.org,2002:{name}" for name in _PLAIN} | {None}
    constructors = yaml.SafeLoader.yaml_constructors.items()
    loader.yaml_constructors = {tag: build for tag, build in constructors if tag in kept}
    loader.add_constructor(_INT, _Loader.construct_number)
    loader.add_constructor(_FLOAT, _Loader.construct_number)


_without_old_words(_Loader)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file as plain data; None for an empty one.  Raises YamlError."""
    try:
        if not path.is_file():  # opening a named pipe would wait for ever
            raise YamlError(f"{path}: is not a file")
        with path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
        if len(content) > LIMIT_BYTES:
            raise YamlError(f"{path}: is larger than {LIMIT_BYTES >> 20} MiB, the limit for YAML")
        return yaml.load(content.decode("utf-8-sig"), Loader=_Loader)
    except OSError as error:
        raise YamlError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise YamlError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise YamlError(f"{where}: is not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise YamlError(f"{path}: is not valid YAML: {reason}") from error
