"""`zoc wrap` as a cluster job runs it, on a real ActiveMQ that goes away meanwhile."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from support.site import ZOC, Site, next_message
from support.waiting import eventually
from zoctools.recipe.recipe import Recipe
from zoctools.recipe.step import Step

NAMES = ("starting", "result-individual-file", "result-all-files", "success", "failure", "completed")


@pytest.fixture
def place(private_activemq, tmp_path):
    site = Site(tmp_path / "site", private_activemq("full"), "zocalo")
    yield site
    site.stop()


def task(site: Site, script: str, **parameters) -> Path:
    parameters |= {"command": ["sh", "-c", script], "working_directory": str(site.base / "work")}
    outputs = {name: number for number, name in enumerate(NAMES, start=2)}
    nodes = {"1": {"queue": "q", "job_parameters": parameters, "output": outputs}}
    nodes |= {str(number): {"queue": "heard", "name": name} for name, number in outputs.items()}
    step = Step(Recipe({**nodes, "start": [[1, []]]}), 1, environment={"ID": "the-id"})
    path = site.base / "recipewrapper"
    path.write_text(json.dumps(step.to_json()))
    return path


def heard(link) -> list[tuple[str, object]]:
    """Take messages until the task says that it is over; return (output, payload) in order."""
    found = []
    while not found or found[-1][0] != "completed":
        delivery = next_message(link, what=f"more than {found}")
        link.settle([delivery], [])
        body = json.loads(delivery.body)
        found.append((body["recipe"][str(body["recipe-pointer"])]["name"], body["payload"]))
    return found


def test_a_task_lives_through_a_broker_that_is_killed_and_comes_back(place):
    work = place.base / "work"
    file = task(place, "echo > begun; while [ ! -e go ]; do sleep 0.1; done; echo done > a.log", files=["a.log"])
    process = place.start(ZOC, "wrap", "command", "--recipewrapper", file)
    eventually((work / "begun").exists, 60, "the program")
    place.broker.kill()
    (work / "go").touch()
    eventually(lambda: "messages wait for it" in place.logs(), 60, "the wrapper waiting")
    place.broker.restart()
    assert process.wait(timeout=100) == 0, place.logs()
    link = place.link()
    link.subscribe(link.queue("heard"))
    record = {"file_path": str(work), "file_name": "a.log", "file_type": "log"}
    assert heard(link) == [
        ("starting", "Starting processing"),
        ("result-individual-file", record),
        ("result-all-files", {"filelist": [f"{work}/a.log"]}),
        ("success", "Finished processing"),
        ("completed", "Finished processing"),
    ]
    link.close()


@pytest.mark.parametrize("how", ["signal", "command"])
def test_a_task_that_is_stopped_ends_its_program_and_tells_the_recipe(place, how):
    file = task(place, "echo $$ > pid; sleep 600")
    link = place.link()
    link.subscribe(link.queue("heard"))
    listener = place.link()
    listener.subscribe(listener.topic("transient.status"), acknowledge=False, prefetch=100)
    process = place.start(ZOC, "wrap", "command", "--recipewrapper", file)
    eventually((place.base / "work" / "pid").exists, 60, "the program")
    if how == "signal":
        process.send_signal(signal.SIGTERM)
    else:
        host = json.loads(next_message(listener, what="a status").body)["host"]
        place.run(ZOC, "shutdown", host, "--yes")
    assert process.wait(timeout=100) == 1, place.logs()
    why = "stopped by SIGTERM" if how == "signal" else "stopped by a shutdown command"
    assert heard(link) == [
        ("starting", "Starting processing"),
        ("failure", why),
        ("completed", "Finished processing"),
    ]
    pid = (place.base / "work" / "pid").read_text().strip()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), what="the end of the program")
    for transport in (link, listener):
        transport.close()
