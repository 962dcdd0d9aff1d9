"""Read YAML with PyYAML, but refuse what would silently lose or change a setting."""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

from pipeline.config.fields import no_blank, shown
from pipeline.errors import UserError

# a setting needs six levels at most; with aliases, a short text can stand for a value of any size
MOST_LEVELS, MOST_VALUES = 20, 1_000_000
TOO_DEEP, TOO_MANY = f"nested more than {MOST_LEVELS} levels deep", f"more than {MOST_VALUES:,} values"
# YAML 1.1 reads 010 as 8, and 1:30 as 90
OCTAL_OR_BASE_60 = re.compile(r"[-+]?0[0-7_]*[1-7][0-7_]*|.*:.*")
NO_BLANK = re.compile(r"^\s*(?:- )?([\w.]+:)[^\s/:].*", re.MULTILINE)


def parse(text: str) -> Any:
    """Return the value that ``text`` stands for.

    Raises:
        UserError: why it is not YAML, or, one a line, what YAML would misread (``problems``).
    """
    try:
        loader = StrictLoader(text)
        value = loader.get_single_data()
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {_reason(error, text)}") from None
    if loader.problems:
        raise UserError("\n".join(loader.problems))
    _check_size(value)
    return value


class StrictLoader(yaml.SafeLoader):
    """PyYAML's loader; ``problems`` lists keys that occur twice or lack a space, and numbers that YAML reads oddly."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.tells_lines = "\n" in text.strip()
        self.problems: list[str] = []
        self.level = self.merge_level = self.num_merged = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        if self.level > MOST_LEVELS:
            raise UserError(TOO_DEEP)
        self.level += 1
        node = super().compose_node(parent, index)
        self.level -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        # before << is merged in: the keys that it brings may be set again
        node: MappingNode = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or key.tag.endswith(":merge"):
                continue
            line, same = key.start_mark.line + 1, (key.tag, key.value)
            if same in lines:
                where = f", in lines {lines[same]} and {line}" if self.tells_lines else ""
                self.problems.append(f"{key.value} is given twice{where}")
            lines[same] = line
            if ":" in key.value and not key.style and isinstance(value, ScalarNode) and not value.value:
                self.problems.append(no_blank(key.value) + self._line(key))
        return node

    def flatten_mapping(self, node: MappingNode) -> None:
        # mappings that merge one another, each several times, would take all the time and stack there is
        if self.merge_level > MOST_LEVELS:
            raise UserError(TOO_DEEP)
        self.merge_level += 1
        super().flatten_mapping(node)
        self.merge_level -= 1
        self.num_merged += len(node.value)
        if self.num_merged > MOST_VALUES:
            raise UserError(TOO_MANY)

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
            kind = node.tag.rpartition(":")[2]
            raise ConstructorError(None, None, f"{shown(node.value)} is not a valid {kind}", node.start_mark) from None

    def construct_number(self, node: ScalarNode) -> Any:
        is_whole = node.tag.endswith(":int")
        value = self.construct_yaml_int(node) if is_whole else self.construct_yaml_float(node)
        if OCTAL_OR_BASE_60.fullmatch(node.value):
            problem = f"{node.value} is {shown(value)} in YAML; write that, or a text in quotes"
            self.problems.append(problem + self._line(node))
        return value

    def _line(self, node: Node) -> str:
        return f" (line {node.start_mark.line + 1})" if self.tells_lines else ""


# no setting is a date: what looks like one stays text
StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
StrictLoader.add_constructor("tag:yaml.org,2002:int", StrictLoader.construct_number)
StrictLoader.add_constructor("tag:yaml.org,2002:float", StrictLoader.construct_number)


def _reason(error: Any, text: str) -> str:
    """Return ``error`` as part of a sentence, with its line and the line that may have caused it."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    context = f"{error.context} " if str(error.problem).startswith("but ") else ""
    reason = " ".join(f"{context}{error.problem}".split())
    if reason == "second occurrence":  # "found duplicate anchor 'x'; first occurrence"
        reason = error.context.partition(";")[0]
    where = f" (line {mark.line + 1}, column {mark.column + 1})"
    blamed = NO_BLANK.search(text)
    return reason + where + (f"; {no_blank(blamed[0].strip())}" if blamed else "")


def _check_size(value: Any) -> None:
    """Raise ``UserError`` for a value that is too deep, contains itself, or is vast."""
    num_values, level = 0, [value]
    for _ in range(MOST_LEVELS):
        inner: list[Any] = []
        for item in level:
            inner += item.values() if isinstance(item, dict) else item if isinstance(item, (list, set)) else ()
            if num_values + len(inner) > MOST_VALUES:
                raise UserError(TOO_MANY)
        if not inner:
            return
        num_values, level = num_values + len(inner), inner
    raise UserError(TOO_DEEP)
