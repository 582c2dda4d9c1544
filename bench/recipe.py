"""CPU time of recipe operations, ours beside the published `workflows` package: usage: recipe.py [--rounds N]

A hop is: open a message of 4 KB, encode it for the next node; no broker, no socket. Ours knows the recipe from the
message before, as a service does; `workflows` decodes and encodes it each time, because it always does. "Substitute
again" is a dispatcher's work on a recipe it has filled in before: `workflows` must load it anew, for it changes it.
"""

from __future__ import annotations

import argparse
import sys

from measure import HERE, Case, Results, Target, conditions, peer_python, print_table, print_verdicts, run_interleaved
from recipe_shapes import SHAPES

OPERATIONS = ("load + validate", "validate", "load + substitute", "substitute again", "load twice + merge")
OURS, THEIRS = "zoctools", "workflows"
TARGETS = [Target("G8", "33 nodes in layers of 3", OURS, THEIRS, 1 / 50)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    python = peer_python()
    cases = [Case(OURS, (sys.executable, str(HERE / "recipe_case.py")))]
    if python is None:
        print("peer not installed: only our own figures")
    else:
        cases.insert(0, Case(THEIRS, (python, str(HERE / "peer_recipe.py"))))
    results = run_interleaved(cases, options.rounds)
    print(conditions(unit="microseconds of CPU, best of three goes a round"))
    for operation in OPERATIONS:
        _print_operation(operation, results)
    print_table("validate() of a graph with 3^11 paths", results, ("33 nodes in layers of 3",))
    print_table("Hop, no broker", results, ("4 KB",))
    print_table("Reference of this machine", results, ("json.dumps",))
    print_verdicts(TARGETS, results)


def _print_operation(operation: str, results: Results) -> None:
    """One table of an operation over all shapes, with the ratios of the medians."""
    by_shape = {
        case: {shape: figures[f"{shape} {operation}"] for shape in SHAPES if f"{shape} {operation}" in figures}
        for case, figures in results.items()
    }
    print_table(operation, by_shape, SHAPES)
    theirs, ours = by_shape.get(THEIRS, {}), by_shape[OURS]
    ratios = [f"{shape} {ours[shape].median / theirs[shape].median:.2f}" for shape in SHAPES if shape in theirs]
    if ratios:
        print(f"  {OURS} / {THEIRS}: {', '.join(ratios)}")


if __name__ == "__main__":
    main()
