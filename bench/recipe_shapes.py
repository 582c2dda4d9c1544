"""The recipes and the message of the recipe benchmark; imported by ours and, under its own Python, the peer."""

from __future__ import annotations

import json
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUND_SECONDS = 0.05
SHAPES = ("archive", "chain of 5", "chain of 50", "fan of 50")


def _node(number: int, output: Any = None) -> dict[str, Any]:
    node: dict[str, Any] = {
        "service": f"Service {number}",
        "queue": f"queue.{number}",
        "parameters": {
            "file": "{ispyb_directory}/{ispyb_prefix}_%05d.cbf",
            "dcid": "{ispyb_dcid}",
            "number": number,
            "known": ["{p1}", "{p2}"],
            "unknown": "{nobody_knows}",
        },
    }
    return node if output is None else {**node, "output": output}


def chain(length: int) -> dict[str, Any]:
    """Every node leads to the next."""
    nodes: dict[str, Any] = {str(number): _node(number, number + 1) for number in range(1, length)}
    return {**nodes, str(length): _node(length), "start": [[1, []]]}


def fan(width: int) -> dict[str, Any]:
    """One node leads to all others."""
    nodes = {str(number): _node(number) for number in range(2, width + 1)}
    return {"1": _node(1, {"every": list(range(2, width + 1))}), **nodes, "start": [[1, []]]}


def layers(width: int, depth: int) -> dict[str, Any]:
    """Every node of a layer leads to every node of the next: width to the power of depth paths."""
    nodes: dict[str, Any] = {}
    for layer in range(depth):
        following = [width * (layer + 1) + 1 + index for index in range(width)]
        for index in range(width):
            number = str(width * layer + index + 1)
            nodes[number] = {"queue": "q", "output": following} if layer < depth - 1 else {"queue": "q"}
    return {**nodes, "start": [[index + 1, []] for index in range(width)]}


def texts() -> dict[str, str]:
    """The recipes of the benchmark by name, as JSON."""
    shipped = json.loads((Path(__file__).parents[1] / "recipes" / "archive-cbfs.json").read_text("utf-8"))
    made = {"archive": shipped, "chain of 5": chain(5), "chain of 50": chain(50), "fan of 50": fan(50)}
    return {name: json.dumps(recipe) for name, recipe in made.items()}


def parameters() -> dict[str, Any]:
    """Fifty parameters, as of a data collection."""
    known = {f"p{number}": f"value {number}" for number in range(40)}
    ispyb = {
        "directory": "/dls/i03/data/2026/cm1-1",
        "prefix": "x",
        "dcid": 5073790,
        "beamline": "i03",
        "visit": "cm1-1",
    }
    images = {"image_pattern": "x_%05d.cbf", "image_first": 1, "image_last": 1800}
    info = {"imageDirectory": "/dls/i03/data/2026/cm1-1/", "wavelength": 0.9763}
    return {
        **known,
        **{f"ispyb_{name}": value for name, value in {**ispyb, **images}.items()},
        "ispyb_dc_info": info,
        "guid": "5e0c0c0a-0000-4000-8000-0000000000aa",
    }


def envelope() -> bytes:
    """A recipe message of about 4 KB standing at the first node of a chain."""
    body = {
        "environment": {"ID": "5e0c0c0a-0000-4000-8000-0000000000aa"},
        "payload": {f"key{number}": f"value {number}" for number in range(46)},
        "recipe": chain(7),
        "recipe-path": [],
        "recipe-pointer": 1,
    }
    return json.dumps(body).encode()


def microseconds(work: Callable[[], object]) -> float:
    """How long one call takes: many calls in one go, the best of three goes."""
    timer = timeit.Timer(work, timer=time.process_time)
    started = time.process_time()
    work()
    once = max(time.process_time() - started, 1e-6)
    number = max(1, int(ROUND_SECONDS / once))
    return 1e6 * min(timer.repeat(3, number)) / number


def measure(
    load: Callable[[str], Any],
    validate: Callable[[Any], object],
    substitute: Callable[[str, dict[str, Any]], object],
    substitute_again: Callable[[Any, str, dict[str, Any]], object],
    merge: Callable[[str, str], object],
    hop: Callable[[bytes], object],
) -> dict[str, float]:
    """Return every figure of one client, in microseconds; both clients are measured by this."""
    recipes, values, body = texts(), parameters(), envelope()
    layered = load(json.dumps(layers(3, 11)))
    figures = {
        "33 nodes in layers of 3": microseconds(lambda: validate(layered)),
        "4 KB": microseconds(lambda: hop(body)),
    }
    for name, text in recipes.items():
        loaded = load(text)
        figures[f"{name} load + validate"] = microseconds(lambda text=text: validate(load(text)))
        figures[f"{name} validate"] = microseconds(lambda loaded=loaded: validate(loaded))
        figures[f"{name} load + substitute"] = microseconds(lambda text=text: substitute(text, values))
        figures[f"{name} substitute again"] = microseconds(
            lambda loaded=loaded, text=text: substitute_again(loaded, text, values)
        )
        figures[f"{name} load twice + merge"] = microseconds(lambda text=text: merge(text, text))
    reference = json.loads(body)
    figures["json.dumps"] = microseconds(lambda: json.dumps(reference))
    return figures
