import json
import os
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zocservices import dispatcher
from zocservices.dispatcher import FILTER_PLUGINS, READY_PLUGINS, Dispatcher
from zoctools.errors import ConfigError
from zoctools.logbook import Logbook
from zoctools.recipe.recipe import Recipe
from zoctools.recipe.step import Step
from zoctools.service.service import Reject
from zoctools.settings import Settings
from zoctools.testing import Harness, Outcome, run

DEMO = {
    "1": {"queue": "first", "parameters": {"file": "{file}", "visit": "{ispyb_visit}"}, "output": {"next": [2]}},
    "2": {"queue": "second"},
    "start": [[1, {"hello": "{file}"}], [2, []]],
}
HEADERS = {"zocalo.go.user": "gda", "zocalo.go.host": "i03-control"}


class Site:
    """A directory with recipes and all that may be configured."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.recipes = root / "recipes"
        self.recipes.mkdir()
        self.recipe("demo", DEMO)
        self.logbook = Logbook(root / "book")

    def recipe(self, name: str, recipe: Any) -> None:
        (self.recipes / f"{name}.json").write_text(json.dumps(recipe))

    def collection(self, dcid: int, known: Any) -> None:
        directory = self.root / "collections"
        directory.mkdir(exist_ok=True)
        (directory / f"{dcid}.json").write_text(known if isinstance(known, str) else json.dumps(known))

    def settings(self, **more: Any) -> Settings:
        collections = self.root / "collections"
        storage = {
            "zocalo.recipe_directory": str(self.recipes),
            "zocalo.dispatcher.logbook_location": str(self.logbook.root),
        }
        return Settings(storage=storage, collections=collections if collections.is_dir() else None, **more)

    def dispatch(self, request: Any, **message: Any) -> Outcome:
        return run(Dispatcher, request, settings=self.settings(), **{"plain": True, "headers": HEADERS, **message})

    def harness(self, **more: Any) -> Harness:
        return Harness(Dispatcher, settings=self.settings(**more))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Plug-ins of other people: group -> functions, which become entry points named after them."""
    installed: dict[str, list[Any]] = {FILTER_PLUGINS: [], READY_PLUGINS: []}

    class Installed(EntryPoint):
        def load(self) -> Any:
            return next(found for found in installed[self.group] if found.__name__ == self.name)

    def entry_points(*, group: str) -> list[EntryPoint]:
        return [Installed(found.__name__, f"site:{found.__name__}", group) for found in installed[group]]

    monkeypatch.setattr(dispatcher, "entry_points", entry_points)
    return installed


def put(harness: Harness, request: Any, **message: Any) -> None:
    harness.put(request, **{"plain": True, "headers": HEADERS, **message})


def arrived(harness: Harness, queue: str) -> tuple[Step, dict[str, str]]:
    """Return the only message of a queue, opened as a service would, and its headers."""
    (message,) = harness.waiting(queue)
    return Step.from_message(message.headers, message.body), dict(message.headers)


def test_a_request_starts_the_recipe_filled_in(site: Site) -> None:
    harness = site.harness()
    put(harness, {"recipes": ["demo"], "parameters": {"file": "/x", "ispyb_dcid": 7, "guid": "abc-1"}})
    harness.settle()
    step, headers = arrived(harness, "first")
    assert step.environment == {"ID": "abc-1"}
    assert (step.pointer, step.path, step.payload) == (1, (), {"hello": "/x"})
    assert step.parameters == {"file": "/x", "visit": "{ispyb_visit}"}
    assert headers["workflows-recipe"] == "True"
    assert "zocalo.go.user" not in headers
    second, _ = arrived(harness, "second")
    assert (second.pointer, second.payload) == (2, [])
    assert harness.waiting("processing_recipe") == []


def test_a_request_without_a_recipe_id_is_given_one(site: Site) -> None:
    harness = site.harness()
    for guid in ({}, {"guid": None}, {"guid": ""}):
        put(harness, {"recipes": ["demo"], "parameters": {"file": 1, **guid}})
    harness.settle()
    ids = {Step.from_message(message.headers, message.body).recipe_ID for message in harness.waiting("second")}
    assert len(ids) == 3
    assert all(len(recipe_ID) == 36 for recipe_ID in ids)


def test_the_custom_recipe_is_numbered_first_then_the_files_in_order(site: Site) -> None:
    site.recipe("other", {"1": {"queue": "third"}, "start": [[1, []]]})
    custom = {"4": {"queue": "custom"}, "start": [[4, []]]}
    outcome = site.dispatch({"recipes": ["demo", "other", "other"], "custom_recipe": custom, "parameters": {"file": 1}})
    (sent,) = outcome.sent
    expected = Recipe(custom)
    for name in ("demo", "other", "other"):
        expected = expected.merged(Recipe.from_file(site.recipes / f"{name}.json"))
    assert sent.payload == expected.substituted({"file": 1}).to_json()
    assert [pair[0] for pair in sent.payload["start"]] == [4, 5, 6, 7, 8]


def test_a_custom_recipe_needs_no_name(site: Site) -> None:
    harness = site.harness()
    put(harness, {"custom_recipe": {"1": {"queue": "q{x}"}, "start": [[1, {}]]}, "parameters": {"x": "42"}})
    harness.settle()
    assert len(harness.waiting("q42")) == 1


def test_a_recipe_file_that_changes_is_read_again(site: Site) -> None:
    harness = site.harness()
    put(harness, {"recipes": ["demo"], "parameters": {"file": 1}})
    harness.settle()
    site.recipe("demo", {"1": {"queue": "changed", "comment": "longer"}, "start": [[1, []]]})
    put(harness, {"recipes": ["demo"], "parameters": {"file": 1}})
    harness.settle()
    assert (len(harness.waiting("first")), len(harness.waiting("changed"))) == (1, 1)


def test_a_request_inside_a_recipe_starts_a_child_of_it(site: Site) -> None:
    harness = site.harness()
    request = {"recipes": ["demo"], "parameters": {"file": 1, "guid": "child"}}
    put(harness, request, plain=False, environment={"ID": "parent"}, node={"output": {}})
    harness.settle()
    step, headers = arrived(harness, "first")
    assert (step.recipe_ID, headers["zoc_parent"], headers["zoc_hop"]) == ("child", "parent", "1")
    assert [line.parent_recipe_ID for line in site.logbook.lines()] == ["parent"]
    assert any("another, with recipe ID child" in words for words in harness.outcomes[0].words)


@pytest.mark.parametrize(
    ("request_body", "words"),
    [
        ("x", "a request must be an object"),
        ([], "a request must be an object"),
        (None, "a request must be an object"),
        (5, "a request must be an object"),
        ({}, "names no recipe"),
        ({"recipes": []}, "names no recipe"),
        ({"recipes": [], "custom_recipe": {}}, "names no recipe"),
        ({"recipes": "ok"}, "recipes must be a list"),
        ({"recipes": None}, "recipes must be a list"),
        ({"recipes": {"demo": 1}}, "recipes must be a list"),
        ({"recipes": ["../secret"]}, "bad recipe name"),
        ({"recipes": ["/etc/passwd"]}, "bad recipe name"),
        ({"recipes": ["a\x1b/b"]}, "bad recipe name"),
        ({"recipes": [5]}, "bad recipe name"),
        ({"recipes": ["demo"] * 101}, "101 recipes"),
        ({"recipes": ["unknown"]}, "there is no recipe 'unknown'"),
        ({"recipes": ["broken"]}, "broken.json"),
        ({"recipes": ["circle"]}, "circle.json"),
        ({"recipes": ["demo"], "parameters": None}, "parameters must be an object, not null"),
        ({"recipes": ["demo"], "parameters": [1]}, "parameters must be an object, not a list"),
        ({"recipes": ["demo"], "parameters": {"guid": 5}}, "guid must be text"),
        ({"recipes": ["demo"], "parameters": {"guid": True}}, "guid must be text"),
        ({"recipes": ["demo"], "parameters": {"guid": "a/" * 33 + "/../../../var/evil"}}, "bad guid"),
        ({"recipes": ["demo"], "parameters": {"guid": "a\nb"}}, "bad guid"),
        ({"custom_recipe": [1]}, "custom_recipe must be a recipe"),
        ({"custom_recipe": {"1": {"queue": "x"}}}, "custom recipe: "),
        ({"custom_recipe": {"note": 1, "start": [[1, []]]}}, "custom recipe: "),
        ({"custom_recipe": {"1": {"queue": "{x.y}"}, "start": [[1, []]]}, "parameters": {"x": 1}}, "attribute"),
        ({"custom_recipe": {"1": {"queue": "{"}, "start": [[1, []]]}}, "node 1"),
        (
            {"custom_recipe": {"1": {"queue": "{$REPLACE:x}"}, "start": [[1, []]]}, "parameters": {"x": [1]}},
            "cannot be started: node 1: queue must be text",
        ),
        (
            {"custom_recipe": {"1": {"queue": "x", "transport-delay": "soon"}, "start": [[1, []]]}},
            "cannot be started: node 1: transport-delay",
        ),
    ],
)
def test_a_malformed_request_is_rejected_with_a_sentence(site: Site, request_body: object, words: str) -> None:
    (site.recipes / "broken.json").write_text("{")
    site.recipe("circle", {"1": {"output": [1]}, "start": [[1, []]]})
    (site.root / "secret.json").write_text(json.dumps(DEMO))
    outcome = site.dispatch(request_body)
    assert outcome.ending == "reject"
    assert words in outcome.error
    assert outcome.error.isprintable()
    assert not site.logbook.root.exists() or list(site.logbook.root.iterdir()) == []


def test_a_rejected_request_is_one_dead_letter_with_its_bytes_and_the_next_is_served(site: Site) -> None:
    harness = site.harness()
    for body in (b"not json", b"\xff\xfe", b'{"recipes": ["../secret"], "parameters": {"guid": 5}}', b""):
        put(harness, body)
    put(harness, {"recipes": ["demo"], "parameters": {"file": 1}})
    harness.settle()
    letters = harness.dead_letters("processing_recipe")
    assert [letter.body for letter in letters][:3] == [
        b"not json",
        b"\xff\xfe",
        b'{"recipes": ["../secret"], "parameters": {"guid": 5}}',
    ]
    assert letters[2].headers["zoc_error"].startswith("guid must be text")
    assert len(letters) == 4
    assert len(harness.waiting("first")) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
requests = json_values | st.fixed_dictionaries(
    {},
    optional={
        "recipes": json_values | st.lists(st.sampled_from(["demo", "x", "..", 5]), max_size=3),
        "custom_recipe": json_values | st.dictionaries(st.sampled_from(["1", "start", "error", "x"]), json_values),
        "parameters": json_values
        | st.dictionaries(st.sampled_from(["guid", "file", "dispatcher_timeout"]), json_values),
    },
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(body=requests)
def test_whatever_is_asked_is_done_or_rejected(fuzzed: Site, body: object) -> None:
    assert fuzzed.dispatch(body).ending in ("done", "reject")


def test_the_logbook_holds_what_came_what_became_of_it_and_the_recipe(site: Site) -> None:
    site.collection(7, {"ispyb_visit": "cm1-1", "ispyb_beamline": "i03"})
    outcome = site.dispatch({"recipes": ["demo"], "parameters": {"file": "/x", "ispyb_dcid": "7", "guid": "abc-1"}})
    record = site.logbook.read("abc-1")
    assert record.header["zocalo.go.user"] == "gda"
    assert record.incoming == {
        "recipes": ["demo"],
        "parameters": {"file": "/x", "ispyb_dcid": "7", "guid": "abc-1"},
    }
    assert record.parsed["parameters"]["ispyb_visit"] == "cm1-1"
    assert record.recipe == outcome.sent[0].payload
    (line,) = site.logbook.of_collection(7)
    assert (line.recipe_ID, line.recipes, line.beamline, line.visit) == ("abc-1", ("demo",), "i03", "cm1-1")
    assert (line.user, line.host, line.supplied) == ("gda", "i03-control", True)


def test_what_stands_in_the_index_is_logged_with_the_recipe_id(site: Site) -> None:
    outcome = site.dispatch({"recipes": ["demo"], "parameters": {"file": 1, "ispyb_dcid": 7, "guid": "abc-1"}})
    (record,) = [record.__dict__ for record in outcome.log if "Processed incoming message" in record.getMessage()]
    assert record["dcid"] == 7
    assert record["recipes"] == ["demo"]
    assert record["request_user"] == "gda"


def test_a_logbook_that_cannot_be_written_fails_no_request(site: Site) -> None:
    site.logbook.root.write_text("a file stands in the way")
    outcome = site.dispatch({"recipes": ["demo"], "parameters": {"file": 1}})
    assert outcome.ending == "done"
    assert any("not written to the logbook" in words for words in outcome.words)


def test_without_a_logbook_recipes_are_started_all_the_same(site: Site) -> None:
    settings_ = Settings(storage={"zocalo.recipe_directory": str(site.recipes)})
    request = {"recipes": ["demo"], "parameters": {"file": 1}}
    assert run(Dispatcher, request, settings=settings_, plain=True).ending == "done"


# Readiness


def not_ready(message: dict[str, Any], parameters: dict[str, Any]) -> bool:
    return bool(parameters.get("ready"))


def test_a_request_that_is_not_ready_is_looked_at_every_two_seconds(site: Site, plugins: dict[str, list[Any]]) -> None:
    plugins[READY_PLUGINS] = [not_ready]
    harness = site.harness()
    put(harness, {"recipes": ["demo"], "parameters": {"file": 1}})
    harness.advance(10.1)
    assert [outcome.ending for outcome in harness.outcomes] == ["done"] * 6
    assert harness.waiting("first") == []


@pytest.mark.parametrize(("asked", "seconds"), [({}, 120), ({"dispatcher_timeout": "60"}, 60)])
def test_the_end_of_waiting_is_noted_in_the_request(
    site: Site, plugins: dict[str, list[Any]], asked: dict[str, Any], seconds: float
) -> None:
    began = time.time()
    parameters = json.loads(sent_again(site, plugins, asked).body)["parameters"]
    assert began + seconds <= parameters["dispatcher_expiration"] <= time.time() + seconds
    assert len(parameters["guid"]) == 36


def sent_again(site: Site, plugins: dict[str, list[Any]], parameters: dict[str, Any], **message: Any) -> Any:
    """Return the message by which a request that is not ready comes again."""
    plugins[READY_PLUGINS] = [not_ready]
    harness = site.harness()
    put(harness, {"recipes": ["demo"], "parameters": parameters}, **message)
    harness.settle()
    harness.leave()
    harness.clock.advance(5)
    (found,) = harness.waiting("processing_recipe")
    return found


def test_what_is_sent_again_keeps_headers_recipe_id_and_expiration(site: Site, plugins: dict[str, list[Any]]) -> None:
    at = time.time() + 50
    parameters = {"guid": "abc-1", "dispatcher_expiration": at}
    marks = {**HEADERS, "priority": "7", "traceparent": "00-x", "zoc_attempts": "2"}
    found = sent_again(site, plugins, parameters, headers=marks)
    assert json.loads(found.body) == {"recipes": ["demo"], "parameters": parameters}
    assert {name: found.headers.get(name) for name in marks} == {**marks, "zoc_attempts": None}


def test_what_is_sent_again_keeps_its_envelope(site: Site, plugins: dict[str, list[Any]]) -> None:
    recipe = {"3": {"queue": "processing_recipe", "output": [4]}, "4": {"queue": "after"}, "start": [[3, []]]}
    found = sent_again(site, plugins, {}, plain=False, recipe=recipe, pointer=3, environment={"ID": "parent", "k": 1})
    step = Step.from_message(found.headers, found.body)
    assert (step.pointer, step.environment) == (3, {"ID": "parent", "k": 1})
    assert step.payload["recipes"] == ["demo"]
    assert found.headers["zocalo.go.user"] == "gda"
    assert found.headers.get("zoc_parent") is None


def test_a_request_that_becomes_ready_is_started_under_the_id_it_was_given(
    site: Site, plugins: dict[str, list[Any]]
) -> None:
    calls: list[str] = []

    def third_time(message: dict[str, Any], parameters: dict[str, Any]) -> bool:
        calls.append(parameters["guid"])
        return len(calls) > 2

    plugins[READY_PLUGINS] = [third_time]
    harness = site.harness()
    put(harness, {"recipes": ["demo"], "parameters": {"file": 1}})
    harness.advance(10)
    step, _ = arrived(harness, "first")
    assert calls == [step.recipe_ID] * 3


def test_a_request_that_never_becomes_ready_is_rejected_or_handed_to_its_error_queue(
    site: Site, plugins: dict[str, list[Any]]
) -> None:
    plugins[READY_PLUGINS] = [not_ready]
    expired = {"dispatcher_expiration": time.time() - 1}
    outcome = site.dispatch({"recipes": ["demo"], "parameters": expired})
    assert (outcome.ending, "never became ready" in outcome.error) == ("reject", True)
    harness = site.harness()
    put(harness, {"recipes": ["demo"], "parameters": {**expired, "dispatcher_error_queue": "late"}})
    harness.settle()
    (found,) = harness.waiting("late")
    assert json.loads(found.body)["recipes"] == ["demo"]
    assert found.headers["zocalo.go.user"] == "gda"
    assert harness.dead_letters("processing_recipe") == []


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"dispatcher_expiration": "soon"}, "dispatcher_expiration is not a time"),
        ({"dispatcher_expiration": float("nan")}, "dispatcher_expiration is not a time"),
        ({"dispatcher_timeout": []}, "dispatcher_timeout is not a time"),
        ({"dispatcher_timeout": -1}, "dispatcher_timeout is not a time"),
        ({"dispatcher_expiration": 1, "dispatcher_error_queue": 5}, "not the name of a queue"),
        ({"dispatcher_expiration": 1, "dispatcher_error_queue": "a,b"}, "not the name of a queue"),
        ({"dispatcher_expiration": 1, "dispatcher_error_queue": "a\nb"}, "not the name of a queue"),
    ],
)
def test_nonsense_about_waiting_is_rejected(
    site: Site, plugins: dict[str, list[Any]], parameters: dict[str, Any], words: str
) -> None:
    plugins[READY_PLUGINS] = [not_ready]
    outcome = site.dispatch({"recipes": ["demo"], "parameters": parameters})
    assert (outcome.ending, words in outcome.error) == ("reject", True)


# Filters of other people


def test_filters_are_applied_in_order_before_the_recipes_are_loaded(site: Site, plugins: dict[str, list[Any]]) -> None:
    def name_it(message: dict[str, Any], parameters: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        message["recipes"].append("demo")
        return message, {**parameters, "file": "one"}

    def extend(message: dict[str, Any], parameters: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        parameters["file"] += "-two"
        return message, parameters

    plugins[FILTER_PLUGINS] = [name_it, extend]
    harness = site.harness()
    put(harness, {"recipes": [], "parameters": {"guid": "abc-1"}})
    harness.settle()
    step, _ = arrived(harness, "first")
    assert step.parameters["file"] == "one-two"
    assert site.logbook.read("abc-1").incoming == {"recipes": [], "parameters": {"guid": "abc-1"}}


def test_a_filter_may_make_a_recipe_with_another_library(site: Site, plugins: dict[str, list[Any]]) -> None:
    class TheirRecipe:
        def __init__(self) -> None:
            self.recipe = {1: {"queue": "theirs"}, "start": [(1, [])]}

    def make(message: dict[str, Any], parameters: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        message["recipe"] = TheirRecipe()
        return message, parameters

    plugins[FILTER_PLUGINS] = [make]
    harness = site.harness()
    put(harness, {"recipes": ["demo"], "parameters": {"file": 1}})
    harness.settle()
    assert (len(harness.waiting("theirs")), len(harness.waiting("first"))) == (1, 1)


def test_a_recipe_in_the_request_itself_is_not_one(site: Site) -> None:
    outcome = site.dispatch({"recipe": {"1": {"queue": "evil"}, "start": [[1, []]]}})
    assert (outcome.ending, "names no recipe" in outcome.error) == ("reject", True)


def failing(message: dict[str, Any], parameters: dict[str, Any]) -> Any:
    raise OSError("no database")


def returning_nothing(message: dict[str, Any], parameters: dict[str, Any]) -> Any:
    return None


def returning_rubbish(message: dict[str, Any], parameters: dict[str, Any]) -> Any:
    return message, [parameters]


@pytest.mark.parametrize("broken", [failing, returning_nothing, returning_rubbish])
def test_a_filter_that_fails_is_a_failed_attempt_and_names_the_filter(
    site: Site, plugins: dict[str, list[Any]], broken: Callable[..., Any]
) -> None:
    plugins[FILTER_PLUGINS] = [broken]
    outcome = site.dispatch({"recipes": ["demo"], "parameters": {"file": 1}})
    assert outcome.ending == "failed"
    assert broken.__name__ in outcome.error


def test_a_filter_may_reject(site: Site, plugins: dict[str, list[Any]]) -> None:
    def picky(message: dict[str, Any], parameters: dict[str, Any]) -> Any:
        raise Reject("not today")

    plugins[FILTER_PLUGINS] = [picky]
    outcome = site.dispatch({"recipes": ["demo"], "parameters": {"file": 1}})
    assert (outcome.ending, outcome.error) == ("reject", "not today")


def test_a_plugin_that_cannot_be_loaded_stops_the_dispatcher_with_a_sentence(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = EntryPoint("ispyb", "no_such_module:filter", FILTER_PLUGINS)
    monkeypatch.setattr(dispatcher, "entry_points", lambda group: [broken] if group == FILTER_PLUGINS else [])
    with pytest.raises(ConfigError, match=r"'ispyb' .* cannot be loaded"):
        site.harness()


# Data collections


def test_what_is_known_of_a_data_collection_fills_the_recipe_in(site: Site) -> None:
    known = {
        "ispyb_visit": "cm1-1",
        "ispyb_working_directory": "/dls/tmp/{guid}",
        "ispyb_dc_info": {"imageDirectory": "/x/"},
        "guid": "other",
        "file": "other",
    }
    site.collection(7, known)
    node = {"queue": "first", "parameters": dict.fromkeys(("ispyb_working_directory",), "{ispyb_working_directory}")}
    node["parameters"]["dir"] = "{ispyb_dc_info[imageDirectory]}{ispyb_dc_info[uuid]}{file}"
    request = {"custom_recipe": {"1": node, "start": [[1, []]]}}
    harness = site.harness()
    put(harness, {**request, "parameters": {"ispyb_dcid": "7", "guid": "abc-1", "file": "mine"}})
    harness.settle()
    step, _ = arrived(harness, "first")
    assert step.parameters == {"ispyb_working_directory": "/dls/tmp/abc-1", "dir": "/x/abc-1mine"}


@pytest.mark.parametrize(
    ("dcid", "content", "words"),
    [
        (8, "{}", "data collection 8 is not known"),
        ("../7", "{}", "not a data collection ID"),
        ([7], "{}", "not a data collection ID"),
        (True, "{}", "not a data collection ID"),
        (7, "{", "7.json is not JSON"),
        (7, "[" * 100_000, "7.json is not JSON"),
        (7, "[]", "7.json does not hold an object"),
    ],
)
def test_a_data_collection_nobody_knows_is_rejected(site: Site, dcid: object, content: str, words: str) -> None:
    site.collection(7, content)
    outcome = site.dispatch({"recipes": ["demo"], "parameters": {"file": 1, "ispyb_dcid": dcid}})
    assert (outcome.ending, words in outcome.error) == ("reject", True)


def test_a_pipe_in_the_place_of_a_data_collection_holds_nobody_up(site: Site) -> None:
    site.collection(7, {})
    os.mkfifo(site.root / "collections" / "8.json")
    outcome = site.dispatch({"recipes": ["demo"], "parameters": {"file": 1, "ispyb_dcid": 8}})
    assert (outcome.ending, "8.json is not JSON" in outcome.error) == ("reject", True)


def test_a_request_for_no_data_collection_asks_for_none(site: Site) -> None:
    site.collection(7, {})
    assert site.dispatch({"recipes": ["demo"], "parameters": {"file": 1}}).ending == "done"


def test_a_directory_of_collections_that_is_away_is_waited_for(site: Site) -> None:
    site.collection(7, {})
    harness = site.harness()
    (site.root / "collections").rename(site.root / "away")
    put(harness, {"recipes": ["demo"], "parameters": {"file": 1, "ispyb_dcid": 7}})
    harness.settle()
    assert harness.outcomes[0].ending == "retry"
    (site.root / "away").rename(site.root / "collections")
    harness.advance(20)
    assert len(harness.waiting("first")) == 1


@pytest.mark.parametrize(
    ("known", "waits"),
    [
        ({"ispyb_dc_info": {"runStatus": None}}, True),
        ({"ispyb_dc_info": {"runStatus": ""}}, True),
        ({"ispyb_dc_info": {"runStatus": "DataCollection Successful"}}, False),
        ({"ispyb_dc_info": {}}, False),
        ({}, False),
        (None, True),
    ],
)
def test_a_request_may_wait_until_the_data_collection_has_ended(site: Site, known: Any, waits: bool) -> None:
    site.collection(1, {})
    if known is not None:
        site.collection(7, known)
    harness = site.harness()
    parameters = {"file": 1, "ispyb_dcid": 7, "ispyb_wait_for_runstatus": "1"}
    put(harness, {"recipes": ["demo"], "parameters": parameters})
    harness.advance(5)
    assert len(harness.waiting("first")) == (0 if waits else 1)
    site.collection(7, {"ispyb_dc_info": {"runStatus": "done"}})
    harness.advance(5)
    assert len(harness.waiting("first")) == 1


# Queues chosen by parameters


def test_a_site_may_say_which_queues_parameters_choose(site: Site) -> None:
    request = {"custom_recipe": {"1": {"queue": "{q}"}, "2": {"queue": "fixed"}, "start": [[1, 0], [2, 0]]}}
    for allowed, chosen, ending in (
        (None, "any", "done"),
        (("one", "two"), "two", "done"),
        (("one",), "two", "reject"),
        ((), "one", "reject"),
    ):
        settings_ = site.settings(templated_queues=allowed)
        outcome = run(Dispatcher, {**request, "parameters": {"q": chosen}}, settings=settings_, plain=True)
        assert outcome.ending == ending
        assert ending == "done" or "node 1: queue '{q}' is a template" in outcome.error
