"""The directory of recipes: which one it is, which names it takes, and that nothing outside is reached."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from zoctools.config import Settings
from zoctools.errors import BadFile, ConfigError, RecipeError
from zoctools.recipe import directory

REPOSITORY = Path(__file__).parents[2]
GOOD = json.dumps({"1": {"queue": "a"}, "start": [[1, []]]})


def test_the_configured_directory_outranks_our_own(tmp_path: Path) -> None:
    configured = Settings(storage={"zocalo.recipe_directory": str(tmp_path)})
    assert directory.recipes_dir(configured) == tmp_path
    for unconfigured in (None, Settings()):
        names = directory.recipe_names(directory.recipes_dir(unconfigured))
        assert {"archive-cbfs", "example-echo"} <= set(names)


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "../../etc/passwd",
        "/etc/x",
        "a/b",
        "",
        ".",
        "..",
        ".hidden",
        "a\0b",
        "a\nb",
        "a\n",
        "-x",
        "x" * 129,
        "ü",
        None,
        5,
        ["archive-cbfs"],
    ],
)
def test_a_bad_recipe_name_is_refused(tmp_path: Path, name: object) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.json").write_text(GOOD)
    with pytest.raises(RecipeError, match="is a bad recipe name"):
        directory.load(tmp_path / "inside", name)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.json").write_text(GOOD)
    (inside / "link.json").symlink_to(tmp_path / "secret.json")
    (inside / "loop.json").symlink_to(inside / "loop.json")
    with pytest.raises(RecipeError, match="leads out of"):
        directory.load(inside, "link")
    with pytest.raises(RecipeError, match="loop"):
        directory.load(inside, "loop")
    assert directory.recipe_names(inside) == ["link"]


def test_a_directory_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "good.json").write_text(GOOD)
    (tmp_path / "real" / "alias.json").symlink_to("good.json")
    (tmp_path / "live").symlink_to(tmp_path / "real")
    assert directory.load(tmp_path / "live", "good") == directory.load(tmp_path / "live", "alias")


def test_a_recipe_nobody_has_is_answered_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "archive-cbfs.json").write_text(GOOD)
    with pytest.raises(RecipeError, match="there is no recipe 'archive-cfbs'") as caught:
        directory.load(tmp_path, "archive-cfbs")
    assert caught.value.hint == "did you mean 'archive-cbfs'?"


def test_a_recipe_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(GOOD)
    first = directory.load(tmp_path, "r")
    assert directory.load(tmp_path, "r") is first
    file.write_text(GOOD.replace('"a"', '"longer"'))
    assert directory.load(tmp_path, "r").nodes[1]["queue"] == "longer"
    scratch = tmp_path / "scratch"
    scratch.write_text(GOOD.replace('"a"', '"change"'))
    os.utime(scratch, ns=(1, file.stat().st_mtime_ns))
    scratch.replace(file)
    assert directory.load(tmp_path, "r").nodes[1]["queue"] == "change"
    file.unlink()
    with pytest.raises(RecipeError, match="there is no recipe"):
        directory.load(tmp_path, "r")


def test_a_recipe_that_is_not_valid_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "dir.json").mkdir()
    with pytest.raises(RecipeError, match=r"bad\.json: the recipe is empty"):
        directory.load(tmp_path, "bad")
    with pytest.raises((RecipeError, BadFile)):
        directory.load(tmp_path, "dir")
    assert directory.recipe_names(tmp_path) == ["bad"]


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        directory.recipe_names(tmp_path / "nowhere")
    with pytest.raises((RecipeError, ConfigError), match="nowhere"):
        directory.load(tmp_path / "nowhere", "x")
