"""What every log record has, and what a console shows of it."""

from __future__ import annotations

import io
import json
import logging
import socket
import zlib

import pytest

from zoctools import logs, settings
from zoctools.errors import ConfigError


@pytest.fixture(autouse=True)
def quiet_root():
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger(logs.HANDLED).setLevel(logging.NOTSET)
    logging.captureWarnings(False)


def console(verbosity=0, **options):
    """Set up logging and return what the console gets."""
    stream = io.StringIO()
    root = logs.set_up(settings.Settings(**options), verbosity, lambda: {"workflows_service": "Archiver"})
    for handler in root.handlers:
        if isinstance(handler.formatter, logs.Console):
            handler.setStream(stream)
    return stream


def test_the_console_shows_foreign_text_made_safe_and_further_lines_indented():
    stream = console()
    logging.getLogger("archiver").warning("read %s", "a\x1b[2Jb\nERROR forged")
    line, forged = stream.getvalue().splitlines()
    assert line.endswith("WARNING archiver: read a\\x1b[2Jb")
    assert forged == "    ERROR forged"


def test_records_of_handled_messages_are_shown_when_asked_for_or_worrying():
    handled = logging.getLogger(logs.HANDLED)
    quiet, asked = console(), None
    handled.info("a good one")
    handled.warning("a bad one")
    assert "a good one" not in quiet.getvalue()
    assert "a bad one" in quiet.getvalue()
    asked = console(verbosity=1)
    handled.info("a good one")
    assert "a good one" in asked.getvalue()


def test_setting_up_twice_says_everything_once():
    console()
    stream = console()
    logging.getLogger("x").info("once")
    assert stream.getvalue().count("once") == 1


def test_records_have_the_recipe_id_while_one_is_handled():
    seen = []
    handler = logging.Handler()
    handler.emit = seen.append
    handler.addFilter(logs.Context(lambda: {"workflows_host": "h.1"}))
    log = logging.getLogger("test.context")
    log.addHandler(handler)
    try:
        with logs.recipe("recipe-1"):
            log.warning("inside")
            with logs.recipe(""):
                log.warning("nested without")
        log.warning("outside")
    finally:
        log.removeHandler(handler)
    inside, nested, outside = seen
    assert inside.recipe_ID == "recipe-1"
    assert inside.workflows_host == "h.1"
    assert not hasattr(nested, "recipe_ID")
    assert not hasattr(outside, "recipe_ID")


def receive(port_of):
    """Log one record towards a socket of ours; returns the GELF message."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as graylog:
        graylog.bind(("127.0.0.1", 0))
        graylog.settimeout(20)
        port_of(graylog.getsockname()[1])
        with logs.recipe("recipe-1"):
            logging.getLogger("archiver").warning("to graylog", extra={"zoc_queue": "zocalo.a"})
        return json.loads(zlib.decompress(graylog.recv(65536)))


def check_gelf(message):
    assert message["short_message"] == "to graylog"
    assert message["facility"] == "archiver"
    assert message["level"] == 4
    assert message["_recipe_ID"] == "recipe-1"
    assert message["_workflows_service"] == "Archiver"
    assert message["_zoc_queue"] == "zocalo.a"


def test_graylog_gets_the_fields_the_existing_services_send():
    check_gelf(receive(lambda port: console(graylog=settings.GraylogSettings("UDP", "localhost", port))))


def test_the_logging_section_of_a_site_replaces_our_console_and_its_old_names_mean_ours():
    section = {
        "plugin": "logging",
        "version": 1,
        "filters": {"down": {"()": "zocalo.configuration.plugin_logging.DowngradeFilter", "reduce_to": "WARNING"}},
        "handlers": {
            "graylog": {"()": "zocalo.configuration.plugin_logging.GraylogUDPHandler", "host": "127.0.0.1", "port": 1}
        },
        "loggers": {"archiver": {"filters": ["down"]}},
        "root": {"level": "WARNING", "handlers": ["graylog"]},
        "verbose": [{"loggers": {"archiver": {"level": "DEBUG"}}}],
    }

    def start(port):
        section["handlers"]["graylog"]["port"] = port
        console(verbosity=1, logging=section)

    check_gelf(receive(start))
    assert logging.getLogger("archiver").level == logging.DEBUG
    logging.getLogger("archiver").filters.clear()
    logging.getLogger("archiver").setLevel(logging.NOTSET)


def test_a_wrong_logging_section_is_one_line():
    with pytest.raises(ConfigError, match=r"^logging: "):
        console(logging={"handlers": {"x": {"class": "no.such.Handler"}}, "root": {"handlers": ["x"]}})


def test_downgrade_touches_only_what_is_in_between():
    down = logs.Downgrade("WARNING", only_below="CRITICAL")
    levels = []
    for level in (logging.INFO, logging.ERROR, logging.CRITICAL):
        record = logging.LogRecord("x", level, "", 0, "", None, None)
        assert down.filter(record)
        levels.append(record.levelno)
    assert levels == [logging.INFO, logging.WARNING, logging.CRITICAL]
