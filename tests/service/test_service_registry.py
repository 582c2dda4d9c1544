"""Which service a name means."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from zoctools.errors import UsageError
from zoctools.service import registry

NAMES = ("Archiver", "FileWatcher", "FileSorter", "filewatcher2", "Mailer", "MAILER")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("FileWatcher", "FileWatcher"),
        ("filewatcher", "FileWatcher"),
        ("ARCHIVER", "Archiver"),
        ("FileW", "FileWatcher"),
        ("filew", "filewatcher2"),
        ("files", "FileSorter"),
        ("Mailer", "Mailer"),
        ("a", "Archiver"),
    ],
)
def test_names_match_exactly_then_without_case_then_as_prefix(name, found):
    assert registry.meant(name, NAMES) == found


@pytest.mark.parametrize(("name", "words"), [("File", "FileWatcher or FileSorter"), ("mailer", "Mailer or MAILER")])
def test_a_name_that_means_several_is_refused_with_them(name, words):
    with pytest.raises(UsageError, match=words):
        registry.meant(name, NAMES)


def test_a_name_nobody_has_is_refused_with_what_there_is():
    with pytest.raises(UsageError) as refused:
        registry.meant("Nobody\x1b[2J", NAMES)
    assert "\x1b" not in refused.value.message
    assert "Archiver, FileWatcher" in refused.value.hint


def test_a_service_that_cannot_be_loaded_is_listed_with_the_reason():
    broken = EntryPoint("Broken", "no.such.module:Service", registry.GROUP)
    foreign = EntryPoint("Foreign", "json:JSONDecoder", registry.GROUP)
    first, second = registry.listed([broken, foreign])
    assert "ModuleNotFoundError" in first.problem
    assert "not a zoctools service" in second.problem
