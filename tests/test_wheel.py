"""The built wheel brings everything a user needs: `make test` runs the suite on it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import zoctools
from zoctools.recipe.directory import recipes_dir

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not os.environ.get("ZOC_TEST_WHEEL"), reason="runs on the built wheel: make test")


def test_the_suite_runs_on_the_wheel_and_not_on_the_source_tree() -> None:
    assert Path(zoctools.__file__).parent != ROOT / "zoctools"


def test_every_recipe_is_installed_and_found() -> None:
    shipped = {path.name: path.read_bytes() for path in (ROOT / "recipes").glob("*.json")}
    assert shipped
    installed = recipes_dir(None)
    assert installed != ROOT / "recipes"
    assert {path.name: path.read_bytes() for path in installed.glob("*.json")} == shipped


def test_man_pages_and_completions_are_installed_where_they_are_looked_for() -> None:
    share = Path(sys.prefix) / "share"
    pages = {path.name for path in (ROOT / "man").glob("*.1")}
    assert pages
    assert pages <= {path.name for path in (share / "man/man1").iterdir()}
    for completion in ("bash-completion/completions/zoc", "zsh/site-functions/_zoc"):
        assert (share / completion).stat().st_size > 100
    assert (share / "fish/vendor_completions.d/zoc.fish").stat().st_size > 100


def test_styles_of_the_screens_are_installed() -> None:
    inside = Path(zoctools.__file__).parent
    source = {path.relative_to(ROOT / "zoctools") for path in (ROOT / "zoctools").rglob("*.tcss")}
    assert source
    assert all((inside / path).exists() for path in source)
