"""TLS, logins and permissions on a real ActiveMQ that has them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support import certificates
from support.activemq import ActiveMQ
from support.site import next_message
from zoctools.config import StompSettings, TlsSettings
from zoctools.errors import LoginRefused, SendRefused, Unreachable
from zoctools.transport.contract import Destination, Outgoing
from zoctools.transport.stomp import StompTransport


@pytest.fixture(scope="module")
def guarded() -> Iterator[ActiveMQ]:
    """A broker with logins, permissions and TLS."""
    broker = ActiveMQ.start("auth")
    yield broker
    broker.stop()


def settings(broker: ActiveMQ, user: str = "zoc", password: str = "zocpw") -> StompSettings:
    return StompSettings((("127.0.0.1", broker.stomp_port),), user, password)


def secure(broker: ActiveMQ, tls: TlsSettings, host: str = "localhost") -> StompSettings:
    return replace(settings(broker), hosts=((host, broker.stomps_port),), tls=tls)


def works(transport: StompTransport) -> bool:
    queue = Destination.queue(f"secure.{uuid.uuid4().hex}")
    try:
        transport.connect()
        transport.subscribe(queue)
        transport.send(Outgoing(queue, b"x" * 300_000))
        delivery = next_message(transport)
        transport.settle([delivery], [])
        return len(delivery.body) == 300_000
    finally:
        transport.close()


def test_a_known_user_is_let_in(guarded: ActiveMQ) -> None:
    assert works(StompTransport(settings(guarded)))


@pytest.mark.parametrize(("user", "password"), [("zoc", "wrong"), ("nobody", "zocpw"), ("", "")])
def test_a_wrong_login_is_refused_in_the_brokers_words(guarded: ActiveMQ, user: str, password: str) -> None:
    with pytest.raises(LoginRefused) as caught:
        StompTransport(settings(guarded, user, password)).connect()
    assert f"127.0.0.1:{guarded.stomp_port}" in caught.value.message
    assert "password" in caught.value.message.lower()
    assert password == "" or password not in caught.value.message


def test_tls_with_the_right_authority_works(guarded: ActiveMQ) -> None:
    assert works(StompTransport(secure(guarded, TlsSettings(ca=guarded.ca))))


def test_tls_without_verification_works_when_asked_for(guarded: ActiveMQ) -> None:
    assert works(StompTransport(secure(guarded, TlsSettings(verify=False), host="127.0.0.1")))


def test_a_client_certificate_is_shown_where_it_is_wanted(guarded: ActiveMQ) -> None:
    certificate, key = guarded.client_certificate
    hosts = (("localhost", guarded.stomps_client_port),)
    with_it = replace(secure(guarded, TlsSettings(guarded.ca, certificate, key)), hosts=hosts)
    assert works(StompTransport(with_it))
    with pytest.raises(Unreachable):
        StompTransport(replace(with_it, tls=TlsSettings(guarded.ca), connect_timeout=3.0)).connect()


def test_nobody_is_trusted_without_an_authority(guarded: ActiveMQ, tmp_path: Path) -> None:
    certificates.make_for_broker(tmp_path)
    for tls in (TlsSettings(), TlsSettings(ca=tmp_path / "broker.pem")):
        with pytest.raises(Unreachable, match="certificate is not trusted"):
            StompTransport(secure(guarded, tls)).connect()


def test_a_missing_certificate_file_is_named(guarded: ActiveMQ, tmp_path: Path) -> None:
    for tls in (TlsSettings(ca=tmp_path / "gone.pem"), TlsSettings(ca=guarded.ca, certificate=tmp_path / "gone.pem")):
        with pytest.raises(Unreachable, match=r"no such file: .*gone\.pem"):
            StompTransport(secure(guarded, tls)).connect()


def test_a_certificate_for_another_host_is_refused(guarded: ActiveMQ) -> None:
    with pytest.raises(Unreachable, match="certificate is not trusted"):
        StompTransport(secure(guarded, TlsSettings(ca=guarded.ca), host="127.0.0.1")).connect()


def test_plain_text_to_a_tls_port_is_no_broker(guarded: ActiveMQ) -> None:
    hosts = (("127.0.0.1", guarded.stomps_port),)
    with pytest.raises(Unreachable):
        StompTransport(replace(settings(guarded), hosts=hosts, connect_timeout=3.0)).connect()


def test_a_monitor_may_look_and_not_send(guarded: ActiveMQ) -> None:
    transport = StompTransport(settings(guarded, "mon", "monpw"))
    transport.connect()
    try:
        transport.subscribe(Destination.topic("transient.status"), acknowledge=False)
        with pytest.raises(SendRefused, match="mon is not authorized to write"):
            transport.send(Outgoing(Destination.queue("forbidden"), b"x"))
        with pytest.raises(SendRefused, match="mon is not authorized to read"):
            transport.subscribe(Destination.queue("forbidden"))
        assert transport.link.connected
    finally:
        transport.close()
