"""One YAML file: read, checked for everything that can be wrong with it alone, and turned into plain values.

Enters a path; leaves a `YamlFile` with its node tree (for places), its values, and its problems. Called by `repository`
for each file that Hydra asks for, so a broken file is one clear message and never a traceback. The dialect is that of
YAML 1.2: only `true` and `false` are booleans (`NO` is Norway), keys are text (`on:` is a key), `12:30` and `010` are
text. Depth and size are capped before libyaml builds a tree, since it recurses on the C stack; aliases are counted on
the node graph, without expanding them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from engine.config.interpolation import check_text
from engine.config.wording import show_value
from engine.errors import Place, Problem

MAX_BYTES = 1_000_000
MAX_DEPTH = 60
MAX_NODES = 100_000
MAX_ALIASED_NODES = 5_000

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE = "tag:yaml.org,2002:"
_TEXT = f"{_CORE}str"
_KNOWN_TAGS = frozenset({"null", "bool", "int", "float", "str", "seq", "map", "merge"})
_SCALARS = (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*\.[0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)
_HEADER = re.compile(r"^\s*#\s*@package\s+(\S+)\s*$", re.MULTILINE)


class _Loader(_Base):  # type: ignore[misc]
    """The C parser with YAML 1.2's scalars."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


for _name, _pattern, _starts in _SCALARS:
    _Loader.add_implicit_resolver(_CORE + _name, re.compile(f"^(?:{_pattern})$"), list(_starts))


@dataclass(frozen=True, slots=True)
class YamlFile:
    """A file as read. `name` is what errors call it; `package` is its `# @package` header; `root` is None when broken.

    In `root` every key is text, and merge keys (`<<`) are replaced by what they bring, before a mapping's own items.
    """

    name: str
    package: str | None = None
    root: yaml.MappingNode | None = None
    values: dict[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def place(self, mark: yaml.Mark) -> Place:
        """Give a mark of this file as a place."""
        return Place(self.name, mark.line + 1, mark.column + 1)


def read_yaml(path: Path, name: str) -> YamlFile:
    """Read and check a file; never raises for its content."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        return _broken(name, None, f"cannot be read: {error.strerror}")
    if len(raw) > MAX_BYTES:
        return _broken(name, None, f"{len(raw):,} bytes; a configuration file has at most {MAX_BYTES:,}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start)
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1)
        return _broken(
            name, (line, column), f"byte 0x{raw[error.start]:02x} is not UTF-8", hint="save the file as UTF-8"
        )
    return parse_yaml(text, name)


def parse_yaml(text: str, name: str) -> YamlFile:
    """Check and convert a file's text; never raises for its content."""
    try:
        deep = _too_deep(text)
        if deep is not None:
            return _broken(name, (deep.line, deep.column), f"nested more than {MAX_DEPTH} levels deep")
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        if mark is not None and "nesting depth" in str(error):  # newer libyaml has a cap of its own
            return _broken(name, (mark.line, mark.column), f"nested more than {MAX_DEPTH} levels deep")
        return _syntax_error(error, text, name)
    if root is None:
        return _broken(name, (0, 0), "the file is empty", hint="write at least one key, or `{}` for nothing")
    if not isinstance(root, yaml.MappingNode):
        mark = root.start_mark
        return _broken(
            name, (mark.line, mark.column), "a configuration file is a mapping of keys", hint="write `key: value`"
        )
    swollen = _too_many(root)
    if swollen:
        return _broken(name, (0, 0), swollen, hint="write less with aliases (`&name`, `*name`, `<<`)")
    problems = tuple(_check_nodes(root, name))
    try:
        values = loader.construct_document(root)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        return _syntax_error(error, text, name, problems)
    header = _HEADER.search(text[:512])
    return YamlFile(name, header[1] if header else None, root, values, problems)


def _broken(name: str, at: tuple[int, int] | None, message: str, *, hint: str | None = None) -> YamlFile:
    places = (Place(name, at[0] + 1, at[1] + 1),) if at else ()
    path = "(file)" if at else name
    return YamlFile(name, problems=(Problem(path, message, hint=hint, places=places),))


def _too_deep(text: str) -> Any:
    """Give the mark at which the nesting passes `MAX_DEPTH`, if it does."""
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                return event.start_mark
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return None


def _too_many(root: yaml.Node) -> str | None:
    """Count nodes as written and as they would be with every alias expanded; each node is visited once."""
    sizes: dict[int, int] = {}
    try:
        expanded = _expanded_size(root, sizes)
    except RecursionError:
        return "an alias contains itself"
    if expanded > MAX_NODES:
        return f"{expanded:,} values when its aliases are expanded; at most {MAX_NODES:,}"
    if expanded - len(sizes) > MAX_ALIASED_NODES:
        return f"aliases repeat {expanded - len(sizes):,} values; at most {MAX_ALIASED_NODES:,}"
    return None


def _expanded_size(node: yaml.Node, sizes: dict[int, int]) -> int:
    known = sizes.get(id(node))
    if known == 0:
        raise RecursionError
    if known is not None:
        return known
    sizes[id(node)] = 0  # being counted: meeting it again is a cycle
    size = 1 + sum(_expanded_size(child, sizes) for child in _children(node))
    sizes[id(node)] = size
    return size


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _check_nodes(root: yaml.MappingNode, name: str) -> Iterator[Problem]:
    """Check keys and scalars, each node once; as a side effect every key becomes text."""
    seen: set[int] = set()
    pending: list[tuple[str, yaml.Node]] = [("", root)]
    while pending:
        path, node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.tag.removeprefix(_CORE) not in _KNOWN_TAGS:
            message = f"tags are not used here: `{node.tag.replace(_CORE, '!!')}`"
            yield Problem(path or "(file)", message, places=(_place(name, node.start_mark),), hint="remove the tag")
            node.tag = _CORE + _neutral(node)
        if isinstance(node, yaml.MappingNode):
            yield from _check_keys(node, path, name)
            pending += [(f"{path}.{key.value}".lstrip("."), value) for key, value in reversed(node.value)]
        elif isinstance(node, yaml.SequenceNode):
            pending += [(f"{path}.{index}", item) for index, item in reversed(list(enumerate(node.value)))]
        elif isinstance(node, yaml.ScalarNode) and "${" in node.value and not path.startswith("hydra."):
            refusal = check_text(node.value)
            if refusal:
                yield Problem(path, refusal.message, value=show_value(node.value), hint=refusal.hint, allowed=refusal.allowed,
                              suggestion=refusal.suggestion, places=(_place(name, node.start_mark),))  # fmt: skip


def _neutral(node: yaml.Node) -> str:
    """The tag of a node whose own is not known."""
    if isinstance(node, yaml.MappingNode):
        return "map"
    return "seq" if isinstance(node, yaml.SequenceNode) else "str"


def _check_keys(node: yaml.MappingNode, path: str, name: str) -> Iterator[Problem]:
    first: dict[str, yaml.Mark] = {}
    for key, _ in node.value:
        place = _place(name, key.start_mark)
        if not isinstance(key, yaml.ScalarNode):
            yield Problem(path or "(file)", "a key is text, not a list or a mapping", places=(place,))
            key.value, key.tag = "", _TEXT
            continue
        full = f"{path}.{key.value}".lstrip(".")
        if key.tag != f"{_CORE}merge":
            key.tag = _TEXT
        if key.value in first:
            message = f"this key is already there, at {_place(name, first[key.value])}"
            yield Problem(full, message, places=(place,), hint="keep one of the two")
        first.setdefault(key.value, key.start_mark)
        if key.value == "_target_":
            yield Problem(full, "`_target_` is never followed: components are looked up by name", places=(place,),
                          hint="write `kind: NAME` and add a plugin for a component of your own")  # fmt: skip


def _place(name: str, mark: yaml.Mark) -> Place:
    return Place(name, mark.line + 1, mark.column + 1)


def _syntax_error(error: Exception, text: str, name: str, problems: tuple[Problem, ...] = ()) -> YamlFile:
    """Say a YAML error in one line, at the place where a person has to look."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
    line, column = (mark.line, mark.column) if mark else _locate(error, text)
    lines = text.splitlines()
    shown = lines[line] if line < len(lines) else ""
    indent = shown[: len(shown) - len(shown.lstrip())]
    if "\t" in indent:
        return _broken(name, (line, indent.index("\t")), "a tab in the indentation", hint="indent with spaces")
    said = "a second document begins here" if "found another document" in str(said) else said
    context, start = getattr(error, "context", None), getattr(error, "context_mark", None)
    since = (
        f", {context} that began in line {start.line + 1}"
        if context and start and start.line != line and "expected a" not in context
        else ""
    )
    broken = _broken(name, (line, column), f"not YAML: {said}{since}", hint=_advice(str(said)))
    return YamlFile(name, problems=(*problems, *broken.problems))


def _locate(error: Exception, text: str) -> tuple[int, int]:
    position = getattr(error, "position", None)
    if not isinstance(position, int):
        return 0, 0
    before = text[:position]
    return before.count("\n"), position - (before.rfind("\n") + 1)


def _advice(said: str) -> str | None:
    if "mapping values are not allowed" in said:
        return "quote a text that contains `: `, and check the indentation"
    if "cannot start any token" in said:
        return "quote a text that starts with one of @ ` %"
    if "second document" in said:
        return "a file holds one document: remove `---`"
    if "constructor for the tag" in said:
        return "tags (`!name`) are not used here"
    if "alias" in said:
        return "define it with `&name`, or quote a text that starts with `*`"
    return None
