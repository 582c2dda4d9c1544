"""A recipe drawn: as a tree for the terminal, for Graphviz (dot), and for Mermaid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zoctools.recipe.recipe import Recipe
from zoctools.text import one_line

_WIDTH = 60


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from one node to another; `output` is the name of the output, empty for the unnamed one."""

    output: str
    node: Any


def edges(recipe: Recipe, number: int) -> list[Edge]:
    """Return where the outputs of a node lead, in order; what leads nowhere a sender could use is left out."""
    output = recipe.nodes[number].get("output")
    named = output if isinstance(output, dict) else {"": output}
    found: list[Edge] = []
    for name, links in named.items():
        targets = links if isinstance(links, list) else [links]
        found += [Edge(name, link) for link in targets if isinstance(link, (int, str)) and not isinstance(link, bool)]
    return found


def _destination(recipe: Recipe, number: Any) -> str:
    node = recipe.nodes.get(number)
    if node is None:
        return "(not defined)"
    queue, topic = node.get("queue"), node.get("topic")
    names = [one_line(queue, _WIDTH)] if queue else []
    names += [f"topic {one_line(topic, _WIDTH)}"] if topic else []
    return " and ".join(names) or "(nowhere to go)"


def _remark(recipe: Recipe, number: int) -> str:
    """What else a person wants to know of a node: the service's name, and how long messages wait for it."""
    node = recipe.nodes[number]
    service, delay = node.get("service"), node.get("transport-delay")
    parts = [one_line(service, _WIDTH)] if service else []
    parts += [f"after {one_line(delay, 20)} s"] if delay else []
    return f"  ({', '.join(parts)})" if parts else ""


def text(recipe: Recipe) -> str:
    """Return a tree for the terminal: each node is drawn once, and later only named."""
    lines = ["start"]
    drawn: set[Any] = set()
    stack: list[tuple[str, str, Edge]] = []

    def push(margin: str, leaving: list[Edge]) -> None:
        last = len(leaving) - 1
        branches = [(margin, "└─ " if index == last else "├─ ", edge) for index, edge in enumerate(leaving)]
        stack.extend(reversed(branches))

    push("", [Edge("", node) for node, _payload in recipe.start])
    while stack:
        margin, branch, edge = stack.pop()
        arrow = f"{one_line(edge.output, _WIDTH)} → " if edge.output else ""
        line = f"{margin}{branch}{arrow}{one_line(edge.node, _WIDTH)} {_destination(recipe, edge.node)}"
        if edge.node in drawn or edge.node not in recipe.nodes:
            lines.append(line + ("  (see above)" if edge.node in drawn else ""))
            continue
        drawn.add(edge.node)
        lines.append(line + _remark(recipe, edge.node))
        push(margin + ("   " if branch.startswith("└") else "│  "), edges(recipe, edge.node))
    alone = [number for number in recipe.nodes if number not in drawn]
    lines += [f"never sent to: {number} {_destination(recipe, number)}{_remark(recipe, number)}" for number in alone]
    return "\n".join(lines)


def dot(recipe: Recipe) -> str:
    """Return the recipe in the language of Graphviz."""
    lines = ["digraph recipe {", "  node [shape=box];", "  start [shape=circle];"]
    lines += [f"  {_id(number)} [label={_dot_text(label)}];" for number, label in _labels(recipe)]
    for origin, edge in _all_edges(recipe):
        label = f" [label={_dot_text(one_line(edge.output, _WIDTH))}]" if edge.output else ""
        lines.append(f"  {origin} -> {_id(edge.node)}{label};")
    return "\n".join([*lines, "}"])


def mermaid(recipe: Recipe) -> str:
    """Return the recipe in the language of Mermaid."""
    lines = ["flowchart TD", "  start((start))"]
    lines += [f'  {_id(number)}["{_mermaid_text(label)}"]' for number, label in _labels(recipe)]
    for origin, edge in _all_edges(recipe):
        arrow = f'-- "{_mermaid_text(one_line(edge.output, _WIDTH))}" -->' if edge.output else "-->"
        lines.append(f"  {origin} {arrow} {_id(edge.node)}")
    return "\n".join(lines)


def _labels(recipe: Recipe) -> Iterator[tuple[Any, str]]:
    for number in recipe.nodes:
        yield number, f"{number}\n{_destination(recipe, number)}"
    missing = {edge.node: None for _, edge in _all_edges(recipe) if edge.node not in recipe.nodes}
    for number in missing:
        yield number, f"{one_line(number, _WIDTH)}\n(not defined)"


def _all_edges(recipe: Recipe) -> Iterator[tuple[str, Edge]]:
    for node, _payload in recipe.start:
        yield "start", Edge("", node)
    for number in recipe.nodes:
        for edge in edges(recipe, number):
            yield _id(number), edge


def _id(number: Any) -> str:
    """A name both languages take: letters, digits and underscores."""
    if isinstance(number, int):
        return f"n{number}" if number >= 0 else f"n_{-number}"
    return "x" + str(number).encode("utf-8", "surrogatepass").hex()


def _dot_text(label: str) -> str:
    return json.dumps(label, ensure_ascii=False)


def _mermaid_text(label: str) -> str:
    escaped = "".join(f"#{ord(letter)};" if letter in '#"<>&`;[]{}|\\' else letter for letter in label)
    return escaped.replace("\n", "<br/>")


FORMATS = {"text": text, "dot": dot, "mermaid": mermaid}
"""The drawings there are, by name."""
