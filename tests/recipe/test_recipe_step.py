"""One message on its way through a recipe: the gate, and every rule of sending."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.recipes import json_values, valid_recipes
from zoctools.errors import RecipeError
from zoctools.recipe import gate
from zoctools.recipe.envelope import BadMessage, encode
from zoctools.recipe.recipe import Recipe
from zoctools.recipe.step import Step
from zoctools.transport.contract import Destination, Outgoing

IS_RECIPE = {"workflows-recipe": "True"}
NODES = {
    "1": {"queue": "one", "output": {"every": [2, 3], "last": 3, "both": 4, "lost": 5, "late": 6}},
    "2": {"queue": "two", "output": [3, 3], "parameters": {"a": [1]}},
    "3": {"queue": "three"},
    "4": {"queue": "four", "topic": "news", "transport-delay": 5},
    "5": {"comment": "nowhere"},
    "6": {"queue": "six", "transport-delay": "7.5"},
    "start": [[1, {"x": 1}], [2, None]],
}


def step_at(number: int, **more: Any) -> Step:
    return Step(Recipe(NODES), number, path=[9], environment={"ID": "the-id"}, namespace="zocalo", **more)


def bodies(step: Step) -> list[Any]:
    return [json.loads(message.body) for message in step.outbox]


def queues(step: Step) -> list[str]:
    return [str(message.destination) for message in step.outbox]


def test_counters_and_causes_of_the_message_being_handled_do_not_live_on() -> None:
    counters = {"zoc_attempts": "2", "zoc_deaths": "4", "zoc_retry_since": "1", "zoc_error": "x"}
    step = step_at(2, headers={**counters, "mine": "1", "priority": "7"})
    step.send(1, headers=step.headers)
    step.start(Recipe(NODES), {"ID": "new"}, headers=step.headers)
    step.send_message("q", {}, headers=step.headers)
    assert len(step.outbox) == 5
    for message in step.outbox:
        assert not counters.keys() & message.headers.keys()
        assert (message.headers["mine"], message.headers["priority"]) == ("1", "7")


def test_a_message_carries_the_envelope_of_the_wire_format() -> None:
    step = step_at(2)
    step.send({"file": "/x"})
    message = step.outbox[0]
    assert message.destination == Destination.queue("zocalo.three")
    assert json.loads(message.body) == {
        "environment": {"ID": "the-id"},
        "payload": {"file": "/x"},
        "recipe": Recipe(NODES).to_json(),
        "recipe-path": [9, 2],
        "recipe-pointer": 3,
    }
    assert message.headers["workflows-recipe"] == "True"
    assert message.headers["zoc_hop"] == "3"
    assert abs(float(message.headers["zoc_sent_at"]) - time.time()) < 60
    assert "zoc_parent" not in message.headers
    assert message.persistent
    assert (message.delay, message.expires_in) == (0, None)


def test_an_unnamed_output_is_sent_to_as_often_as_it_is_named() -> None:
    step = step_at(2)
    assert step.send(1) == 2
    assert queues(step) == ["/queue/zocalo.three", "/queue/zocalo.three"]
    assert step.send_to("anything", 1) == 0


def test_named_outputs_are_sent_to_by_name_only() -> None:
    step = step_at(1)
    assert step.send(1) == 0
    assert step.send_to("no such output", 1) == 0
    assert step.send_to("last", 1) == 1
    assert step.send_to("every", 1) == 2
    assert queues(step) == ["/queue/zocalo.three", "/queue/zocalo.two", "/queue/zocalo.three"]
    assert step.has_output("last")
    assert not step.has_output("first")


def test_a_node_without_output_sends_nothing() -> None:
    step = step_at(3)
    assert (step.send(1), step.send_to("x", 1), step.has_output("x")) == (0, 0, False)
    assert step.outbox == []


def test_the_default_output_and_the_unnamed_one_are_the_same() -> None:
    named, unnamed = step_at(1), step_at(2)
    named.default_output = unnamed.default_output = "every"
    assert named.send(1) == 2 == named.send_to("every", 1)
    assert unnamed.send(1) == 2 == unnamed.send_to("every", 1)
    assert unnamed.send_to("last", 1) == 0


def test_a_node_with_queue_and_topic_serves_both() -> None:
    step = step_at(1)
    assert step.send_to("both", 1) == 2
    assert queues(step) == ["/queue/zocalo.four", "/topic/zocalo.news"]
    assert [message.persistent for message in step.outbox] == [True, False]
    assert step.outbox[0].body == step.outbox[1].body


def test_a_node_without_destination_gets_nothing() -> None:
    step = step_at(1)
    assert step.send_to("lost", 1) == 0
    assert step.has_output("lost")


def test_the_delay_of_a_node_applies_unless_one_is_given() -> None:
    step = step_at(1)
    step.send_to("both", 1)
    step.send_to("both", 1, delay=0)
    step.send_to("both", 1, delay=2)
    step.send_to("late", 1)
    assert [message.delay for message in step.outbox] == [5, 5, 0, 0, 2, 2, 7.5]


@pytest.mark.parametrize("delay", ["soon", -1, float("nan"), float("inf"), [1], True, "1e30"])
def test_a_delay_that_is_no_span_of_time_is_refused(delay: Any) -> None:
    step = Step(Recipe({"1": {"output": 2}, "2": {"queue": "q", "transport-delay": delay}}), 1)
    with pytest.raises(ValueError, match="node 2: transport-delay must be a number of seconds"):
        step.send(1)
    assert step.outbox == []


def test_an_output_that_leads_to_no_node_is_refused() -> None:
    for output in ({"a": None}, {"a": {"b": 2}}, {"a": [9]}, {"a": "2"}, {"a": True}):
        step = Step(Recipe({"1": {"queue": "q", "output": output}}), 1)
        with pytest.raises(RecipeError, match="node 1: output 'a'"):
            step.send_to("a", 1)


def test_a_checkpoint_comes_back_to_the_own_node() -> None:
    step = Step(Recipe({"1": {"queue": "q", "transport-delay": 60}}), 1, path=[4], environment={"ID": "i"})
    step.checkpoint({"seen": 3})
    step.checkpoint({"seen": 4}, delay=2)
    assert [message.delay for message in step.outbox] == [0, 2]
    assert [(body["recipe-path"], body["recipe-pointer"]) for body in bodies(step)] == [([4], 1), ([4], 1)]
    assert [message.headers["zoc_hop"] for message in step.outbox] == ["2", "2"]


def test_starting_a_recipe_sends_every_start_in_order() -> None:
    step = Step(namespace="zocalo.")
    assert step.start(Recipe(NODES), {"ID": "new"}, headers={"zocalo.go.user": "me", "left out": None}) == 2
    assert queues(step) == ["/queue/zocalo.one", "/queue/zocalo.two"]
    assert [(body["recipe-path"], body["recipe-pointer"], body["payload"]) for body in bodies(step)] == [
        ([], 1, {"x": 1}),
        ([], 2, None),
    ]
    assert all(message.headers["zocalo.go.user"] == "me" for message in step.outbox)
    assert all(message.headers["zoc_hop"] == "1" for message in step.outbox)
    assert "left out" not in step.outbox[0].headers


def test_a_recipe_whose_messages_would_be_gigabytes_is_refused() -> None:
    nodes = {"1": {"queue": "one"}, "start": [[1, "x" * 1000]] * 1500}
    step = Step()
    with pytest.raises(RecipeError, match="more than 200 MB are to be sent at once"):
        step.start(Recipe(nodes), {"ID": "new"})
    assert sum(len(message.body) for message in step.outbox) <= 200_000_000


def test_the_recipe_that_started_another_is_its_parent() -> None:
    starter = step_at(1, headers={"zoc_parent": "grandparent"})
    starter.send_to("last", 1)
    starter.start(Recipe(NODES), {"ID": "new"})
    starter.send_message("processing_recipe", {})
    assert [message.headers["zoc_parent"] for message in starter.outbox] == [
        "grandparent",
        "the-id",
        "the-id",
        "the-id",
    ]


def test_messages_straight_to_a_queue_and_to_a_topic() -> None:
    step = step_at(1)
    step.send_message("direct", {"d": Decimal("1.5")}, headers={"priority": 5}, delay=3)
    step.send_message("other.queue", b"\x00raw", namespaced=False)
    step.broadcast_message("news", [1], expires_in=15)
    direct, raw, news = step.outbox
    assert (str(direct.destination), direct.body, direct.delay) == ("/queue/zocalo.direct", b'{"d": 1.5}', 3)
    assert direct.headers["priority"] == "5"
    assert "workflows-recipe" not in direct.headers
    assert (str(raw.destination), raw.body) == ("/queue/other.queue", b"\x00raw")
    assert (str(news.destination), news.body, news.expires_in) == ("/topic/zocalo.news", b"[1]", 15)
    assert not news.persistent


def test_what_json_cannot_hold_is_not_sent() -> None:
    step = step_at(2)
    with pytest.raises(TypeError, match="a set cannot be sent as JSON"):
        step.send({1, 2})
    assert step.outbox == []


def test_a_step_may_hand_its_messages_over_at_once() -> None:
    handed_over: list[Outgoing] = []
    step = step_at(2, post=handed_over.append)
    step.send(1)
    assert len(handed_over) == 2
    assert step.outbox == []


def test_what_a_handler_stores_in_the_environment_goes_on() -> None:
    first = Step.from_message(IS_RECIPE, encode(step_at(2).to_json()))
    first.environment["kept"] = [1]
    first.send(None)
    second = Step.from_message(first.outbox[0].headers, first.outbox[0].body)
    assert second.environment == {"ID": "the-id", "kept": [1]}
    assert second.recipe_ID == "the-id"


def test_a_plain_message_has_a_payload_and_nowhere_to_go() -> None:
    step = Step.from_message({}, b'{"greeting": NaN}', "zocalo")
    assert list(step.payload) == ["greeting"]
    assert (step.recipe, step.pointer, step.node, step.parameters, step.recipe_ID) == (None, 0, {}, {}, "")
    assert (step.send(1), step.send_to("x", 1)) == (0, 0)
    for wrong in (lambda: step.checkpoint(1), step.to_json):
        with pytest.raises(ValueError, match="plain message"):
            wrong()


GATE = {
    "B1": (b"{", "not-json", "the body is not JSON"),
    "B1 text": (b"hello", "not-json", "the body is not JSON"),
    "two values": (b"{} {}", "not-json", "the body is not JSON"),
    "deep": (b"[" * 100_000, "not-json", "nested too deep"),
    "deep member": (b'{"payload": ' + b"[" * 100_000, "not-json", "nested too deep"),
    "B2 list": (b"[]", "bad-envelope", "a list, not an object"),
    "B2 text": (b'"x"', "bad-envelope", "a str, not an object"),
    "B2 null": (b"null", "bad-envelope", "not an object"),
    "no recipe": (b'{"recipe-pointer": 1}', "bad-envelope", "recipe is missing"),
    "no pointer": (b'{"recipe": {"1": {}}}', "bad-envelope", "recipe-pointer is missing"),
    "B3": (b'{"recipe": {"1": {}}, "recipe-pointer": 99}', "bad-envelope", "the recipe has no node 99"),
    "pointer text": (b'{"recipe": {"1": {}}, "recipe-pointer": "x"}', "bad-envelope", "must be a node number"),
    "pointer null": (b'{"recipe": {"1": {}}, "recipe-pointer": null}', "bad-envelope", "must be a node number"),
    "pointer true": (b'{"recipe": {"1": {}}, "recipe-pointer": true}', "bad-envelope", "must be a node number"),
    "pointer far": (b'{"recipe": {"1": {}}, "recipe-pointer": Infinity}', "bad-envelope", "must be a node number"),
    "B4": (b'{"recipe": {"1": {}}, "recipe-pointer": 1, "environment": null}', "bad-envelope", "environment must be"),
    "path": (b'{"recipe": {"1": {}}, "recipe-pointer": 1, "recipe-path": "12"}', "bad-envelope", "recipe-path must"),
    "path in": (b'{"recipe": {"1": {}}, "recipe-pointer": 1, "recipe-path": [[]]}', "bad-envelope", "recipe-path must"),
    "B5": (b"", "bad-envelope", "the body is empty"),
    "B6": (b'{"payload": "\xff"}', "not-utf-8", "byte 13 of the body"),
    "recipe null": (b'{"recipe": null, "recipe-pointer": 1}', "bad-envelope", "recipe: a recipe must be an object"),
    "recipe node": (b'{"recipe": {"1": 5}, "recipe-pointer": 1}', "bad-envelope", "recipe: node 1 must be an object"),
    "recipe name": (b'{"recipe": {"a": {}}, "recipe-pointer": 1}', "bad-envelope", "node names must be numbers"),
    "recipe start": (
        b'{"recipe": {"1": {}, "start": 5}, "recipe-pointer": 1}',
        "bad-envelope",
        "recipe: start must be",
    ),
}


@pytest.mark.parametrize("case", GATE)
def test_what_fails_the_gate_has_a_named_reason(case: str) -> None:
    body, reason, why = GATE[case]
    with pytest.raises(BadMessage) as caught:
        Step.from_message(IS_RECIPE, body)
    assert caught.value.reason == reason
    assert why in caught.value.why
    assert str(caught.value) == f"{reason}: {caught.value.why}"


@pytest.mark.parametrize(("body", "reason"), [(b"", "not-json"), (b"{", "not-json"), (b"\xff", "not-utf-8")])
def test_a_plain_message_passes_the_gate_as_json_only(body: bytes, reason: str) -> None:
    with pytest.raises(BadMessage) as caught:
        Step.from_message({}, body)
    assert caught.value.reason == reason


@pytest.mark.parametrize("flag", ["True", "true"])
def test_the_recipe_header_has_two_spellings(flag: str) -> None:
    body = b'{"recipe": {"1": {}}, "recipe-pointer": 1}'
    assert Step.from_message({"workflows-recipe": flag}, body).recipe is not None


@pytest.mark.parametrize("flag", ["1", "TRUE", "yes", ""])
def test_other_spellings_of_the_recipe_header_mean_a_plain_message(flag: str) -> None:
    body = b'{"recipe": {"1": {}}, "recipe-pointer": 1}'
    assert Step.from_message({"workflows-recipe": flag}, body).recipe is None


def test_what_may_be_left_out_of_an_envelope() -> None:
    step = Step.from_message(IS_RECIPE, b' {"recipe-pointer": "2" , "recipe":{" 2 ":{"queue":"q"}}} \n')
    assert (step.pointer, step.path, step.environment, step.payload) == (2, (), {}, None)
    assert step.node == {"queue": "q"}


def test_a_member_given_twice_counts_as_the_last() -> None:
    body = b'{"recipe": {"1": {}}, "payload": 1, "recipe-pointer": 1, "recipe": {"1": {"queue": "q"}}, "payload": 2}'
    step = Step.from_message(IS_RECIPE, body)
    assert (step.node, step.payload) == ({"queue": "q"}, 2)


def test_a_recipe_goes_on_as_the_very_text_it_came_as() -> None:
    recipe = '{ "1":{"queue":"é\\u00e9", "output" : 2},"2":{"queue":"b","n":1e2,"n":NaN} }'
    body = f'{{"recipe-pointer": 1, "recipe": {recipe}, "payload": null}}'.encode()
    for _ in range(2):
        step = Step.from_message(IS_RECIPE, body)
        step.send(1)
        assert recipe.encode() in step.outbox[0].body


def test_the_same_recipe_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_recent", ())
    recipes = [Recipe({"1": {"queue": f"q{number}"}, "start": [[1, []]]}) for number in range(20)]
    messages = [encode(Step(recipe, 1, payload=payload).to_json()) for payload in range(3) for recipe in recipes[:5]]
    decoded: list[str] = []
    original = Recipe.on_the_wire
    monkeypatch.setattr(Recipe, "on_the_wire", lambda value, text: decoded.append(text) or original(value, text))
    steps = [Step.from_message(IS_RECIPE, message) for message in messages]
    assert len(decoded) == 5
    assert [step.node["queue"] for step in steps] == [f"q{number}" for number in range(5)] * 3
    assert [step.payload for step in steps] == [0] * 5 + [1] * 5 + [2] * 5
    for recipe in recipes:
        Step.from_message(IS_RECIPE, encode(Step(recipe, 1).to_json()))
    assert len(gate._recent) == 8


def test_a_recipe_that_begins_like_a_known_one_is_its_own() -> None:
    for recipe in ('{"1": {"queue": "a"}}', '{"1": {"queue": "a"}, "2": {}}', '{"1": {"queue": "ab"}}', '{"1": {}}'):
        step = Step.from_message(IS_RECIPE, f'{{"recipe": {recipe}, "recipe-pointer": 1}}'.encode())
        assert step.recipe == Recipe(json.loads(recipe))


def test_a_handler_that_changes_its_node_changes_nothing_else() -> None:
    body = encode(Step(Recipe(NODES), 2).to_json())
    careless = Step.from_message(IS_RECIPE, body)
    careless.parameters["a"].append("mine")
    careless.node["output"] = []
    assert careless.recipe is not None
    careless.recipe.nodes.clear()
    assert careless.send(1) == 2
    after = Step.from_message(IS_RECIPE, body)
    assert after.parameters == {"a": [1]}
    assert bodies(careless)[0]["recipe"] == Recipe(NODES).to_json()


@settings(derandomize=True, deadline=None)
@given(recipe=valid_recipes(), payload=json_values, environment=st.dictionaries(st.text(max_size=3), json_values))
def test_an_envelope_survives_the_wire(recipe: Any, payload: Any, environment: Any) -> None:
    made = Recipe(recipe)
    sent = Step(made, made.start[0][0], path=[5, 6], payload=payload, environment=environment)
    arrived = Step.from_message(IS_RECIPE, encode(sent.to_json()))
    assert encode(arrived.to_json()) == encode(sent.to_json())
    assert arrived.recipe is not None
    assert encode(arrived.recipe.to_json()) == encode(made.to_json())


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    body=st.one_of(
        st.binary(max_size=50),
        json_values.map(encode),
        st.dictionaries(
            st.sampled_from(["recipe", "recipe-pointer", "recipe-path", "environment", "payload", "x"]),
            st.one_of(json_values, st.just({"1": {"queue": "q"}}), st.just(1)),
        ).map(encode),
    )
)
def test_no_body_brings_anything_but_a_named_reason(body: bytes) -> None:
    try:
        step = Step.from_message(IS_RECIPE, body)
    except BadMessage as error:
        assert error.reason in ("not-json", "not-utf-8", "bad-envelope")
        assert error.why
    else:
        assert json.dumps(step.to_json()) == json.dumps({**step.to_json(), "payload": json.loads(body).get("payload")})
