"""One host, four spellings."""

from __future__ import annotations

from zoctools.hosts import Host


def test_the_status_spelling_is_read_and_written_back() -> None:
    host = Host.from_status("uk.ac.diamond.cs04r-sc-com09-02.1222995")
    assert (host.dns, host.pid, host.short) == ("cs04r-sc-com09-02.diamond.ac.uk", 1222995, "cs04r-sc-com09-02")
    assert host.status == "uk.ac.diamond.cs04r-sc-com09-02.1222995"


def test_a_host_without_a_domain_keeps_its_name() -> None:
    host = Host.from_status("vm.2245")
    assert (host.dns, host.pid, host.domain, host.status) == ("vm", 2245, "", "vm.2245")


def test_a_name_that_ends_in_digits_is_not_a_process() -> None:
    assert Host.from_status("2245") == Host("2245")


def test_every_spelling_is_offered_for_matching() -> None:
    assert set(Host("node7.site.ac", 9).spellings) == {
        "ac.site.node7",
        "node7.site.ac",
        "node7",
        "ac.site.node7.9",
        "node7.9",
    }


def test_this_process_is_named_as_the_existing_services_name_themselves() -> None:
    import os
    import socket

    expected = ".".join(reversed(socket.gethostname().split("."))) + f".{os.getpid()}"
    assert Host.of_this_process().status == expected
