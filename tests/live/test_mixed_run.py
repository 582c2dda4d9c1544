"""Our programs and the published ones on one broker: they take each other's messages, status, commands and files."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.activemq import ActiveMQ
from support.peers import PEERS, peer_python, peer_script
from support.site import ZOC, Site, next_message
from support.waiting import eventually
from zoctools.transport.stomp import StompTransport

ENTRY_POINTS = """[workflows.services]
PeerForwarder = peer_services:PeerForwarder
[zocalo.wrappers]
peer = peer_services:PeerWrapper
"""
MIXED = {
    "1": {
        "service": "file watcher",
        "queue": "filewatcher",
        "parameters": {"list": ["{file}"], "timeout": 60},
        "output": {"every": 2},
    },
    "2": {"service": "theirs", "queue": "peer.forward", "output": {"forwarded": 3}},
    "3": {"service": "the test", "queue": "mixed.done", "parameters": {"seen": "{file}"}},
    "start": [[1, []]],
}
TASK = {
    "1": {
        "service": "wrapped",
        "queue": "never",
        "job_parameters": {"command": ["true"]},
        "output": dict.fromkeys(("starting", "success", "failure", "completed", "result-individual-file"), 2),
    },
    "2": {"queue": "task.says"},
    "start": [[1, []]],
}


@pytest.fixture(params=["current", "newest"])
def which(request: pytest.FixtureRequest) -> str:
    """Which published packages: on our oldest Python, or the newest there are."""
    peer_python(request.param)
    return request.param


@pytest.fixture
def site(activemq: ActiveMQ, tmp_path: Path) -> Iterator[Site]:
    """A facility where the peers' own services are installed as they would be."""
    installed = tmp_path / "installed"
    information = installed / "peer_services-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: peer-services\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    source = Path(__file__).parents[1] / "support/peer/peer_services.py"
    (installed / "peer_services.py").write_text(source.read_text())
    made = Site(tmp_path / "site", activemq, f"mixed-{uuid.uuid4().hex[:8]}", {"PYTHONPATH": str(installed)})
    made.recipe("mixed", MIXED)
    (made.base / "collections" / "1234.json").write_text('{"ispyb_beamline": "i03"}')
    yield made
    made.stop()


@pytest.fixture
def link(site: Site) -> Iterator[StompTransport]:
    """Our own link to the facility's broker."""
    transport = site.link()
    yield transport
    transport.close()


def listed(site: Site) -> dict[str, dict]:
    """Return what `zoc status` hears, by service class."""
    heard = json.loads(site.run(ZOC, "status", "--json").stdout)
    return {item["service_class"]: item for item in heard["items"]}


def ran_through(link: StompTransport, file: Path) -> dict:
    """Return the message at the end of the mixed recipe, acknowledged."""
    link.subscribe(link.queue("mixed.done"))
    delivery = next_message(link, what="the end of the recipe")
    link.settle([delivery], [])
    message = json.loads(delivery.body)
    assert message["payload"]["seen-by-peer"] is True
    assert message["payload"]["file"] == str(file)
    assert message["recipe-path"] == [1, 2]
    assert message["recipe-pointer"] == 3
    assert message["recipe"]["3"]["parameters"] == {"seen": str(file)}
    return message


def test_their_go_our_dispatcher_our_watcher_their_service(site: Site, link: StompTransport, which: str) -> None:
    file = site.base / "data" / "image.cbf"
    site.start(ZOC, "service", "Dispatcher")
    site.start(ZOC, "service", "FileWatcher")
    site.start(peer_script("zocalo.service", which), "-s", "PeerForwarder")
    said = site.run(peer_script("zocalo.go", which), "-r", "mixed", "-s", f"file={file}", "1234")
    assert "Submitted." in said.stdout
    file.write_bytes(b"x")
    message = ran_through(link, file)
    recipe_id = message["environment"]["ID"]
    entry = site.base / "logbook"
    assert [path.name for path in entry.glob(f"*/{recipe_id[:2]}/*")] == [recipe_id[2:]]


def test_our_go_their_dispatcher_our_watcher_their_service(site: Site, link: StompTransport, which: str) -> None:
    file = site.base / "data" / "image.cbf"
    site.start(peer_script("zocalo.service", which), "-s", "Dispatcher")
    site.start(ZOC, "service", "FileWatcher")
    site.start(peer_script("zocalo.service", which), "-s", "PeerForwarder")
    recipe_id = site.run(ZOC, "go", "-r", "mixed", "-s", f"file={file}", "1234").stdout.strip()
    file.write_bytes(b"x")
    assert ran_through(link, file)["environment"] == {"ID": recipe_id}


def test_each_sees_the_status_of_the_other_and_can_stop_it(site: Site, link: StompTransport, which: str) -> None:
    theirs = site.start(peer_script("zocalo.service", which), "-s", "PeerForwarder")
    ours = site.start(ZOC, "service", "FileWatcher")
    seen = eventually(lambda: (found := listed(site)).keys() >= {"PeerForwarder", "FileWatcher"} and found, 60)
    assert seen["PeerForwarder"]["status"] == 2
    link.subscribe(link.topic("transient.status"), acknowledge=False)

    def status_of_ours() -> dict | None:
        status = json.loads(next_message(link).body)
        return status if status["serviceclass"] == "FileWatcher" else None

    status = eventually(status_of_ours, 30)
    assert {"host", "service", "serviceclass", "status", "statustext", "utilization", "workflows"} <= status.keys()
    site.run(peer_script("zocalo.shutdown", which), "-s", "FileWatcher")
    assert ours.wait(30) == 0
    site.run(ZOC, "shutdown", "--yes", "-s", "PeerForwarder")
    assert theirs.wait(30) == 0


def test_each_picks_up_what_the_other_saved(site: Site, link: StompTransport, which: str) -> None:
    peer_go, peer_pickup = peer_script("zocalo.go", which), peer_script("zocalo.pickup", which)
    site.run(peer_go, "-r", "mixed", "--drop", "11")
    assert len(list((site.base / "drop").iterdir())) == 1
    site.run(ZOC, "pickup", "--yes", "--wait", "0", "--delay", "0")
    site.run(ZOC, "go", "-r", "mixed", "--drop", "22")
    site.run(peer_pickup, "--wait", "0", "--delay", "0")
    assert not list((site.base / "drop").iterdir())
    link.subscribe(link.queue("processing_recipe"), prefetch=2)
    requests = [json.loads(next_message(link).body) for _ in range(2)]
    assert [request["parameters"]["ispyb_dcid"] for request in requests] == [11, 22]


def test_each_runs_the_task_of_a_file_the_other_could_have_written(
    site: Site, link: StompTransport, which: str
) -> None:
    wrapper = site.base / "wrapper.json"
    envelope = {"recipe": TASK, "recipe-pointer": 1, "environment": {"ID": "abc"}, "recipe-path": [], "payload": {}}
    wrapper.write_text(json.dumps(envelope, indent=2))
    site.run(peer_script("zocalo.wrap", which), "--wrap", "peer", "--recipewrapper", wrapper)
    site.run(ZOC, "wrap", "command", "--recipewrapper", wrapper)
    link.subscribe(link.queue("task.says"), prefetch=20)
    said = [json.loads(next_message(link).body) for _ in range(7)]
    assert [message["payload"] for message in said if isinstance(message["payload"], str)] == [
        *("Starting processing", "Finished processing", "Finished processing"),
        *("Starting processing", "Finished processing", "Finished processing"),
    ]
    assert all(message["environment"] == {"ID": "abc"} and message["recipe-path"] == [1] for message in said)


def test_the_newest_packages_are_tested_where_their_python_is() -> None:
    """`make test` installs them where it finds a Python 3.12 or newer; then they must be what is tested."""
    if not (PEERS / "newest").is_dir():
        pytest.skip("no Python 3.12 or newer was found for the newest published packages")
    assert peer_script("zocalo.service", "newest").exists()
