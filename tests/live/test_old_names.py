"""The old names beside the published tools: the same stdout, the same exit codes, the same on the wire."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.activemq import ActiveMQ
from support.peers import peer_script
from support.site import Site, next_message
from zoctools.transport.stomp import StompTransport

OURS = [
    sys.executable,
    "-P",
    "-c",
    "import sys; from zoctools.cli.oldnames import main; sys.exit(main(*sys.argv[1:2], sys.argv[2:]))",
]
RECIPE = {"1": {"queue": "somewhere", "output": 2}, "2": {"queue": "else"}, "start": [[1, {"x": 1}]]}


@pytest.fixture
def site(activemq: ActiveMQ, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "site", activemq, f"old-{uuid.uuid4().hex[:8]}")
    (made.base / "my.json").write_text(json.dumps(RECIPE))
    yield made
    made.stop()


@pytest.fixture
def link(site: Site) -> Iterator[StompTransport]:
    transport = site.link()
    yield transport
    transport.close()


def call(site: Site, command: list[str], words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *words],
        env=site.variables,
        cwd=site.base,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def both(site: Site, name: str, words: list[str]) -> tuple[subprocess.CompletedProcess[str], ...]:
    """Run the published tool, then ours."""
    theirs = call(site, [str(peer_script(f"zocalo.{name}"))], words)
    return theirs, call(site, [*OURS, f"zoc.{name}"], words)


def same(theirs: subprocess.CompletedProcess[str], ours: subprocess.CompletedProcess[str]) -> None:
    assert ours.stdout == theirs.stdout, f"{theirs.stderr}\n---\n{ours.stderr}"
    assert ours.returncode == theirs.returncode, f"{theirs.stderr}\n---\n{ours.stderr}"
    assert "Traceback" not in ours.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["-r", "hello", "42"],
        ["-r", "a", "--recipe=b", "-s", "event=end", "--set", "x=y=z", "42"],
        ["-n", "-r", "hello"],
        ["--no-dcid", "-f", "my.json"],
        ["-f", "my.json", "42"],
        ["-p", "99"],
        ["-r", "hello", "-a", "5", "42"],
        ["-n", "-r", "hello", "-a", "5", "42"],
        ["-e", "test", "-t", "StompTransport", "-r", "hello", "42"],
    ],
    ids=" ".join,
)
def test_go_prints_and_sends_the_same(site: Site, link: StompTransport, words: list[str]) -> None:
    link.subscribe(link.queue("processing_recipe"))
    theirs, ours = both(site, "go", words)
    assert theirs.returncode == 0, theirs.stderr
    same(theirs, ours)
    sent: list[dict[str, Any]] = []
    for _ in range(2):
        delivery = next_message(link)
        link.settle([delivery], [])
        who = {name: value for name, value in delivery.headers.items() if name.startswith("zocalo.go.")}
        sent.append({"headers": who, "message": json.loads(delivery.body)})
    published, made = sent
    assert uuid.UUID(made["message"]["parameters"].pop("guid"))
    assert made == published


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["42"],
        ["-r", "hello", "1", "2"],
        ["-r", "hello", "-s", "broken", "1"],
        ["--nosuch"],
    ],
    ids=" ".join,
)
def test_go_refuses_the_same(site: Site, words: list[str]) -> None:
    theirs, ours = both(site, "go", words)
    assert theirs.returncode in (1, 2)
    same(theirs, ours)
    if theirs.returncode == 1:
        assert ours.stderr == theirs.stderr


def test_go_saves_the_same_file_and_does_not_say_submitted(site: Site) -> None:
    published, made = both(site, "go", ["--drop", "-r", "hello", "-s", "x=1", "42"])
    pattern = (
        rf"Running recipes \['hello'\]\nfor data collection 42\nMessage successfully stored in ({site.base}/drop/\S+)\n"
    )
    theirs = re.fullmatch(pattern + "\nSubmitted.\n", published.stdout)
    ours = re.fullmatch(pattern, made.stdout)
    assert theirs and ours, (published.stdout, made.stdout)
    first, second = (json.loads(Path(found[1]).read_text()) for found in (theirs, ours))
    second["message"]["parameters"].pop("guid")
    assert first == second
    assert (published.returncode, made.returncode) == (0, 0)


def test_go_with_the_broker_away_saves_and_exits_with_0_as_it_did(site: Site) -> None:
    away = ["--stomp-port", "1", "-r", "hello", "42"]
    ours = call(site, [*OURS, "zoc.go"], away)
    assert (ours.returncode, "Message successfully stored in" in ours.stdout) == (0, True)
    assert "Submitted." not in ours.stdout
    assert "saved, NOT submitted" in ours.stderr
    assert len(list((site.base / "drop").iterdir())) == 1


def test_go_dry_run_sends_nothing(site: Site, link: StompTransport) -> None:
    ours = call(site, [*OURS, "zoc.go"], ["--dry-run", "-r", "hello", "42"])
    assert ours.stdout.splitlines()[-1] == "Not sending message (running with --dry-run)"
    assert link.browse(link.queue("processing_recipe")).messages == ()


def test_go_offline_leads_nowhere(site: Site, link: StompTransport) -> None:
    words = ["-t", "OfflineTransport", "-r", "hello", "42"]
    same(*both(site, "go", words))
    assert link.browse(link.queue("processing_recipe")).messages == ()


def test_pickup_prints_and_sends_the_same(site: Site, link: StompTransport) -> None:
    link.subscribe(link.queue("processing_recipe"))
    said = []
    for command in ([str(peer_script("zocalo.pickup"))], [*OURS, "zoc.pickup"]):
        for name in ("hello", "second"):
            call(site, [str(peer_script("zocalo.go"))], ["--drop", "-r", name, "42"])
        done = call(site, command, ["-w", "0", "-d", "0"])
        assert done.returncode == 0, done.stderr
        said.append(re.sub(r"drop/\S+", "drop/FILE", done.stdout))
        assert list((site.base / "drop").iterdir()) == []
        for name in ("hello", "second"):
            delivery = next_message(link)
            link.settle([delivery], [])
            assert json.loads(delivery.body) == {"recipes": [name], "parameters": {"ispyb_dcid": 42}}
            assert delivery.headers["zocalo.go.user"]
    assert said[0] == said[1]


def test_pickup_with_nothing_to_do(site: Site) -> None:
    same(*both(site, "pickup", ["-w", "0"]))
    (site.base / "drop").rmdir()
    theirs, ours = both(site, "pickup", ["-w", "0"])
    same(theirs, ours)
    assert ours.returncode == 1


def test_shutdown_prints_and_sends_the_same(site: Site, link: StompTransport) -> None:
    link.subscribe(link.topic("command"), acknowledge=False)
    words = ["ac.site.node7.2245", "-s", "Dispatcher", "--service=none"]
    same(*both(site, "shutdown", words))
    said = [json.loads(next_message(link).body) for _ in range(6)]
    assert said[:3] == said[3:]
    assert said[0] == {"command": "shutdown", "host": "ac.site.node7.2245"}


def test_shutdown_of_nothing(site: Site) -> None:
    same(*both(site, "shutdown", []))


@pytest.mark.parametrize("words", [[], ["-s", "NoSuchService"]], ids=" ".join)
def test_service_refuses_the_same(site: Site, words: list[str]) -> None:
    theirs, ours = both(site, "service", words)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)


@pytest.mark.parametrize("words", [[], ["--wrap", "nosuchwrapper"]], ids=" ".join)
def test_wrap_refuses_the_same(site: Site, words: list[str]) -> None:
    theirs, ours = both(site, "wrap", words)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)


def test_a_broker_file_and_options_name_the_broker(site: Site, link: StompTransport, tmp_path: Path) -> None:
    link.subscribe(link.queue("processing_recipe"))
    conf = tmp_path / "stomp.ini"
    conf.write_text(f"[stomp]\nhost = 127.0.0.1\nport = 1\nusername =\npassword =\nprefix = {site.namespace}\n")
    words = ["--stomp-port", str(site.broker.stomp_port), "--stomp-conf", str(conf), "-n", "-r", "x"]
    for command in ([str(peer_script("zocalo.go"))], [*OURS, "zoc.go"]):
        done = subprocess.run(
            [*command, "-t", "StompTransport", *words],
            env={name: value for name, value in site.variables.items() if name != "ZOCALO_CONFIG"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        delivery = next_message(link)
        link.settle([delivery], [])
        assert json.loads(delivery.body)["recipes"] == ["x"]
