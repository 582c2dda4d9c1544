"""The site configuration: formats, environments, plug-ins, which broker, and what is said about mistakes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from zoctools import config
from zoctools.errors import ConfigError

STOMP = """
  plugin: stomp
  host: broker.example.org
  port: 61613
  username: zocalo
  password: swordfish
  prefix: zocalo
"""
Writer = Callable[..., Path]


@pytest.fixture
def site(tmp_path: Path) -> Writer:
    """Write a site configuration that only we can read: ``site(text, name="site.yml")``."""

    def write(text: str, name: str = "site.yml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        return path

    return write


def load(path: Path | None, *environments: str, **environ: str) -> config.Settings:
    environ.setdefault("XDG_STATE_HOME", "/nonexistent")
    return config.load(path, environments, environ)


def wrong(path: Path, *environments: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(path, *environments)
    return caught.value


def test_reads_a_broker_with_its_origins(site: Writer) -> None:
    path = site(f"version: 1\nlive-broker:{STOMP}environments:\n  live: [live-broker]\n")
    settings = load(path, "live")
    assert settings.stomp is not None
    assert settings.stomp.hosts == (("broker.example.org", 61613),)
    assert (settings.stomp.username, settings.stomp.password) == ("zocalo", "swordfish")
    assert settings.stomp.namespace == "zocalo"
    assert settings.title == "live (broker.example.org:61613)"
    assert settings.origin("stomp.host") == f"{path}: live-broker.host"
    assert settings.origin("stomp.heartbeat") == "default"
    assert settings.warnings == ()


def test_secrets_are_never_shown(site: Writer) -> None:
    path = site(
        f"version: 1\nb:{STOMP}"
        "api: {plugin: rabbitmqapi, base_url: 'http://x', username: u, password: hunter2}\n"
        "cluster: {plugin: slurm, url: 'http://s', api_version: v1, user_token: tokentoken}\n"
        "other: {plugin: third-party, api_key: keykeykey}\n"
        "store: {plugin: storage, some.password: deepdeep, nested: {secret: innermost}}\n"
        "environments: {default: [b, api, cluster, other, store]}\n"
    )
    settings = load(path)
    shown = repr(settings) + repr(settings.values) + repr(settings.stomp) + repr(settings.slurm)
    for secret in ("swordfish", "hunter2", "tokentoken", "keykeykey"):
        assert secret not in shown
    shown_values = repr(settings.values)
    for secret in ("deepdeep", "innermost"):
        assert secret not in shown_values


def test_default_environment_then_the_variable_then_the_option(site: Writer) -> None:
    path = site(
        "version: 1\n"
        "a: {plugin: storage, which: a}\nb: {plugin: storage, which: b}\nc: {plugin: storage, which: c}\n"
        "environments: {default: [a], night: [b], live: [c]}\n"
    )
    assert load(path).storage["which"] == "a"
    assert load(path, ZOCALO_DEFAULT_ENV="night").storage["which"] == "b"
    assert load(path, "live", ZOCALO_DEFAULT_ENV="night").storage["which"] == "c"


def test_environments_are_lists_groups_aliases_and_chains(site: Writer) -> None:
    path = site(
        "version: 1\n"
        + "".join(f"{name}: {{plugin: storage, last: {name}, {name}: 1}}\n" for name in "abcd")
        + "environments:\n"
        "  plain: [a, b]\n"
        "  grouped: {plugins: [d], zeta: c, alpha: [a, b]}\n"
        "  alias: grouped\n"
        "  chain: alias\n"
        "  empty:\n"
    )
    assert load(path, "plain").storage == {"last": "b", "a": 1, "b": 1}
    for name in ("grouped", "alias", "chain"):
        settings = load(path, name)
        assert list(settings.storage) == ["last", "a", "b", "c", "d"]
        assert settings.storage["last"] == "d"
    assert load(path, "plain", "grouped").storage["last"] == "d"
    assert load(path, "empty").storage == {}


def test_a_plug_in_listed_twice_counts_where_it_stands_first(site: Writer) -> None:
    path = site(
        "version: 1\na: {plugin: storage, last: a}\nb: {plugin: storage, last: b}\n"
        "environments: {default: {one: [a, b], two: [a]}}\n"
    )
    assert load(path).storage["last"] == "b"


def test_no_environments_at_all_is_not_an_error(site: Writer) -> None:
    assert load(site("version: 1\nenvironments:\n")).environments == ()
    assert load(site("version: 1\n")).environments == ()


def test_the_later_broker_replaces_the_whole_earlier_one(site: Writer) -> None:
    tls = STOMP + "  tls: true\n"
    path = site(f"version: 1\na:{tls}b:{STOMP}environments: {{x: [a, b], y: [a]}}\n")
    assert load(path, "y").stomp.tls is not None  # type: ignore[union-attr]
    assert load(path, "x").stomp.tls is None  # type: ignore[union-attr]
    assert load(path, "x").origin("stomp.tls") == "default"


def test_plug_in_files_are_relative_to_the_file_and_checked(site: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    site(STOMP.replace("\n  ", "\n"), "secret/broker.yml")
    path = site("version: 1\nb: secret/broker.yml\nenvironments: {default: [b]}\n")
    assert load(path).stomp.broker == "broker.example.org:61613"  # type: ignore[union-attr]
    assert load(path).origin("stomp.host") == f"{path.parent}/secret/broker.yml: b.host"
    monkeypatch.setenv("HOME", str(path.parent))
    path = site("version: 1\nb: ~/secret/broker.yml\nenvironments: {default: [b]}\n")
    assert load(path).stomp is not None
    site("plugin: stomp\nhost: x\n", "secret/broker.yml")
    assert "secret/broker.yml: b.port: is missing" in wrong(path).message
    site("- a list\n", "secret/broker.yml")
    assert "must be a mapping with 'plugin: NAME'" in wrong(path).message


def test_includes_are_merged_and_the_including_file_outranks(site: Writer) -> None:
    site("version: 1\ninclude: deep.yml\na: {plugin: storage, from: one}\nenvironments: {x: [a, d]}\n", "one.yml")
    site("version: 1\nd: {plugin: storage, deep: true}\n", "deep.yml")
    path = site("version: 1\ninclude: [one.yml]\nb: {plugin: storage, b: 1}\nenvironments: {y: [a, b, d]}\n")
    assert load(path, "y").storage == {"from": "one", "b": 1, "deep": True}
    assert load(path, "x").storage == {"from": "one", "deep": True}
    path = site("version: 1\ninclude: one.yml\na: {plugin: storage, from: top}\n")
    settings = load(path, "x")
    assert settings.storage["from"] == "top"
    assert any("a: replaces the one in" in warning for warning in settings.warnings)


def test_includes_that_go_in_a_circle(site: Writer) -> None:
    site("version: 1\ninclude: site.yml\n", "other.yml")
    assert "includes itself" in wrong(site("version: 1\ninclude: other.yml\n")).message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a site configuration is a mapping"),
        ("- x\n", "a site configuration is a mapping"),
        ("a: {plugin: storage}\n", "version: is missing"),
        ("version: 2\n", "version: must be 1, is 2"),
        ("version: '1'\n", "version: must be 1"),
        ("version: true\n", "version: must be 1"),
        ("version: 1.0\n", "version: must be 1"),
        ("version: 1\n\tx: 1\n", ":2: a tab in the indentation"),
        ("version: 1\na: [1\nb: 2\n", ":3: "),
        ("version: 1\na: {plugin: storage}\na: {plugin: storage}\n", ":3: the key 'a' is given twice"),
        ("version: 1\na:\n  plugin: storage\n  x: 1\n  x: 2\n", ":5: the key 'x' is given twice"),
        ("version: 1\na: !!python/object/apply:os.system [id]\n", ":2: could not determine a constructor"),
        ("version: 1\na: &a [*a]\n", "an alias contains itself"),
        ("version: 1\na: {x: 1}\n", "a: 'plugin: NAME' is missing"),
        ("version: 1\na: 7\n", "a: must be a plug-in configuration"),
        ("version: 1\n7: {plugin: storage}\n", "7: a name must be text"),
        ("version: 1\na: {plugin: storage, 1: 2}\n", "a: 1: a key must be text"),
        ("version: 1\na: nowhere.yml\n", "nowhere.yml: cannot be read: No such file"),
        ("version: 1\na: .\n", "Is a directory"),
        ("version: 1\ninclude: nowhere.yml\n", "nowhere.yml: cannot be read"),
        ("version: 1\ninclude: {a: b}\n", "include: must be a file name or a list"),
        ("version: 1\nenvironments: [a]\n", "environments: must be a mapping"),
        ("version: 1\nenvironments: {x: y}\n", "environments.x: there is no environment 'y'"),
        ("version: 1\nenvironments: {x: y, y: x}\n", "the aliases go in a circle: x -> y -> x"),
        ("version: 1\nenvironments: {x: x}\n", "the aliases go in a circle: x -> x"),
        ("version: 1\nenvironments: {x: [nope]}\n", "environments.x: there is no plug-in configuration 'nope'"),
        ("version: 1\nenvironments: {x: [include]}\n", "'include' is a reserved word"),
        ("version: 1\nenvironments: {x: [1]}\n", "environments.x: must be a list"),
        ("version: 1\nenvironments: {x: {g: {h: 1}}}\n", "environments.x.g: must be a list"),
        ("version: 1\nenvironments: {x: 5}\n", "environments.x: must be a list"),
    ],
)
def test_mistakes_are_named_with_file_and_key(site: Writer, text: str, expected: str) -> None:
    path = site(text)
    error = wrong(path)
    assert error.message.startswith(str(path.parent))
    assert expected in error.message
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("line", "expected", "hint"),
    [
        ("port: abc", "b.port: must be a number from 1 to 65535, is 'abc'", ""),
        ("port: 0", "b.port: must be a number", ""),
        ("port: 65536", "b.port: must be a number", ""),
        ("port: true", "b.port: must be a number", ""),
        ("host: 12", "b.host: must be a host name, is '12'", "put it in quotes"),
        ("host: ''", "b.host: must be a host name", ""),
        ("password: 12345", "b.password: must be text", "put it in quotes"),
        ("password:", "b.password: must be text", ""),
        ("username: [a]", "b.username: must be text", ""),
        ("prefix: 'x,type=*'", "b.prefix: must be letters", ""),
    ],
)
def test_values_of_the_wrong_kind(site: Writer, line: str, expected: str, hint: str) -> None:
    key = line.split(":")[0]
    kept = "\n".join(row for row in STOMP.splitlines() if not row.startswith(f"  {key}:"))
    error = wrong(site(f"version: 1\nb:{kept}\n  {line}\nenvironments: {{default: [b]}}\n"))
    assert expected in error.message
    assert hint in error.hint
    assert "12345" not in error.message


@pytest.mark.parametrize("key", ["host", "port", "username", "password", "prefix"])
def test_required_keys_of_the_broker(site: Writer, key: str) -> None:
    kept = "\n".join(row for row in STOMP.splitlines() if not row.startswith(f"  {key}:"))
    assert f"b.{key}: is missing" in wrong(site(f"version: 1\nb:{kept}\n")).message


@pytest.mark.parametrize(
    ("plugin", "missing"),
    [
        ("{plugin: pika, host: h, port: '5672,5673', username: u, password: p}", "vhost"),
        ("{plugin: transport}", "default"),
        ("{plugin: graylog, protocol: UDP, host: h}", "port"),
        ("{plugin: jmx, host: h, port: 80, base_url: api, username: u}", "password"),
        ("{plugin: rabbitmqapi, username: u, password: p}", "base_url"),
        ("{plugin: slurm, url: u}", "api_version"),
        ("{plugin: smtp, host: h}", "port"),
        ("{plugin: opentelemetry, host: h}", "port"),
    ],
)
def test_required_keys_of_the_other_plug_ins(site: Writer, plugin: str, missing: str) -> None:
    assert f"x.{missing}: is missing" in wrong(site(f"version: 1\nx: {plugin}\n")).message


def test_all_plug_ins_become_settings(site: Writer, tmp_path: Path) -> None:
    path = site(
        "version: 1\n"
        "j: {plugin: jmx, host: h, port: 8161, base_url: api/jolokia, username: u, password: p}\n"
        "r: {plugin: rabbitmqapi, base_url: 'http://r/api', username: u, password: p}\n"
        "k: {plugin: pika, host: 'a,b', port: '5672,5673', username: u, password: p, vhost: z}\n"
        "g: {plugin: graylog, protocol: UDP, host: g, port: 12201}\n"
        "l: {plugin: logging, version: 1, loggers: {x: {level: INFO}}, verbose: [{loggers: {}}]}\n"
        "s: {plugin: slurm, url: 'http://s', api_version: v0.0.40, user: me, user_token: t}\n"
        "i: {plugin: iris, url: 'http://i', api_version: v0.0.40}\n"
        "m: {plugin: smtp, host: mail, port: 25, from: zocalo@example.org}\n"
        "o: {plugin: opentelemetry, host: t, port: 4318}\n"
        f"d: {{plugin: storage, zocalo.recipe_directory: {tmp_path}, zocalo.go.fallback_location: ~/drop,"
        " zocalo.dispatcher.logbook_location: /log, zocalo.dlq.purge_location: /dlq}\n"
        "z: {plugin: zoctools, expected: {Dispatcher: 2}, queues: [q], collections: dcs, allowed-roots: [out, /data]}\n"
        "environments: {default: [j, r, k, g, l, s, i, m, o, d, z]}\n"
    )
    settings = load(path)
    assert (settings.jmx.host, settings.jmx.port, settings.jmx.url) == ("h", 8161, "api/jolokia")  # type: ignore[union-attr]
    assert (settings.rabbitmqapi.url, settings.rabbitmqapi.vhost) == ("http://r/api", "/")  # type: ignore[union-attr]
    assert settings.pika.vhost == "z"  # type: ignore[union-attr]
    assert settings.graylog == config.GraylogSettings("UDP", "g", 12201)
    assert settings.logging is not None
    assert settings.logging["verbose"] == [{"loggers": {}}]
    assert settings.slurm.user_token == "t"  # type: ignore[union-attr]
    assert settings.iris.user == ""  # type: ignore[union-attr]
    assert settings.smtp == config.SmtpSettings("mail", 25, "zocalo@example.org")
    assert settings.opentelemetry.timeout == 10  # type: ignore[union-attr]
    assert settings.recipe_directory == tmp_path
    assert settings.drop_directory == Path("~/drop").expanduser()
    assert settings.logbook_location == Path("/log")
    assert settings.deadletter_directory == Path("/dlq")
    assert settings.expected == {"Dispatcher": 2}
    assert settings.queues == ("q",)
    assert settings.collections == tmp_path / "dcs"
    assert settings.allowed_roots == (tmp_path / "out", Path("/data"))


def test_unknown_plug_ins_and_keys_warn_with_the_near_name(site: Writer) -> None:
    path = site(f"version: 1\nb:{STOMP}  pasword-file: x\nc: {{plugin: stromp}}\nenvironments: {{default: [b, c]}}\n")
    warnings = load(path).warnings
    assert any("b.pasword-file" in warning and "did you mean 'password-file'?" in warning for warning in warnings)
    assert any("'stromp' is not a plug-in" in warning and "did you mean 'stomp'?" in warning for warning in warnings)


def test_a_file_with_a_password_that_others_can_read_is_named(site: Writer) -> None:
    path = site(f"version: 1\nb:{STOMP}environments: {{default: [b]}}\n")
    for mode in (0o644, 0o640, 0o604):
        path.chmod(mode)
        assert any(str(path) in warning and "read by others" in warning for warning in load(path).warnings)
    path.chmod(0o600)
    assert load(path).warnings == ()


def test_our_additions_to_the_broker(site: Writer, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("from file\nsecond line\n")
    secret.chmod(0o600)
    path = site(
        "version: 1\nb:\n  plugin: stomp\n  hosts: ['one:61613', 'two:61614', three]\n  username: u\n"
        "  password-file: password\n  prefix: zocalo.\n  tls-ca: ca.pem\n  heartbeat: 5\n  connect-timeout: 2.5\n"
        "environments: {default: [b]}\n"
    )
    settings = load(path)
    stomp = settings.stomp
    assert stomp is not None
    assert stomp.hosts == (("one", 61613), ("two", 61614), ("three", 61613))
    assert stomp.password == "from file"
    assert settings.origin("stomp.password") == str(secret)
    assert stomp.tls == config.TlsSettings(ca=tmp_path / "ca.pem")
    assert (stomp.heartbeat, stomp.connect_timeout, stomp.namespace) == (5, 2.5, "zocalo")
    assert load(path, ZOC_STOMP_PASSWORD="other").stomp.password == "other"  # type: ignore[union-attr]
    assert load(path, ZOC_STOMP_PASSWORD="other").origin("stomp.password") == "$ZOC_STOMP_PASSWORD"
    secret.chmod(0o644)
    assert any(str(secret) in warning for warning in load(path).warnings)
    secret.write_text("\n")
    assert "holds no password" in wrong(path).message
    secret.unlink()
    assert "cannot be read" in wrong(path).message


def test_unverified_tls_is_said(site: Writer) -> None:
    path = site(f"version: 1\nb:{STOMP}  tls: true\n  tls-verify: false\nenvironments: {{default: [b]}}\n")
    assert any("NOT verified" in warning for warning in load(path).warnings)


def test_alias_bombs_large_and_deep_files_are_refused(site: Writer) -> None:
    bomb = "version: 1\na0: &a0 {plugin: storage, x: y}\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    assert "values with its aliases" in wrong(site(bomb)).message
    assert "larger than 1 MB" in wrong(site("version: 1\n" + "# comment\n" * 110_000)).message
    assert "nested too deeply" in wrong(site("version: 1\na: " + "[" * 5000 + "]" * 5000)).message
    assert "more than 10000 values" in wrong(site("version: 1\na:\n" + "  - a\n" * 10_000)).message
    chain = "".join(f"  e{number}: e{number + 1}\n" for number in range(300))
    assert "aliases of aliases" in wrong(site(f"version: 1\nenvironments:\n{chain}  e300: []\n")).message


def test_includes_that_no_file_can_be(site: Writer, tmp_path: Path) -> None:
    (tmp_path / "loop.yml").symlink_to("loop.yml")
    for name in ("loop.yml", r'"a\0b"'):
        assert "cannot be read" in wrong(site(f"version: 1\ninclude: {name}\n")).message


def test_files_that_cannot_be_used(site: Writer, tmp_path: Path) -> None:
    assert "cannot be read" in wrong(tmp_path / "missing.yml").message
    assert "Is a directory" in wrong(tmp_path).message
    os.mkfifo(tmp_path / "pipe.yml")
    assert "is not a file" in wrong(tmp_path / "pipe.yml").message
    binary = tmp_path / "binary.yml"
    binary.write_bytes(b"version: 1\n# \xff\n")
    assert "is not UTF-8" in wrong(binary).message


def test_an_environment_that_is_not_there(site: Writer) -> None:
    path = site("version: 1\na: {plugin: storage}\nenvironments: {live: [a], test: [a]}\n")
    error = wrong(path, "lvie")
    assert "there is no environment 'lvie'; did you mean 'live'?" in error.message
    assert "live, test" in error.hint
    with pytest.raises(ConfigError, match=r"\$ZOCALO_DEFAULT_ENV: there is no environment 'x'"):
        load(path, ZOCALO_DEFAULT_ENV="x")
    with pytest.raises(ConfigError) as caught:
        load(None, "live")
    assert "ZOCALO_CONFIG is not set" in caught.value.hint


def test_nothing_configured_is_no_broker_and_says_what_to_do() -> None:
    for changing in (True, False):
        with pytest.raises(ConfigError) as caught:
            load(None).broker(changing=changing)
        assert caught.value.message == "no broker is configured"
        assert "ZOCALO_CONFIG" in caught.value.hint


def test_rabbitmq_as_transport_gets_a_sentence(site: Writer) -> None:
    pika = "p: {plugin: pika, host: h, port: 5672, username: u, password: p, vhost: /}\n"
    named = "t: {plugin: transport, default: PikaTransport}\n"
    stored = "s: {plugin: storage, zocalo.default_transport: PikaTransport}\n"
    whole = f"version: 1\nb:{STOMP}{pika}{named}{stored}environments: "
    whole += "{a: [p], b: [b, t], c: [b, p], d: [b, s]}\n"
    path = site(whole)
    for name in ("a", "b", "d"):
        with pytest.raises(ConfigError, match="AMQP comes later"):
            load(path, name).broker(changing=False)
    assert load(path, "c").broker(changing=False).broker == "broker.example.org:61613"


@pytest.fixture
def state(tmp_path: Path) -> str:
    """A state directory in which a local stack says it runs."""
    home = tmp_path / "state"
    (home / "zoctools").mkdir(parents=True)
    said = {"host": "127.0.0.1", "stomp_port": 61999, "storage": {"zocalo.recipe_directory": "/demo"}}
    (home / "zoctools" / "local.json").write_text(json.dumps(said))
    return str(home)


def test_the_local_stack_is_last_and_takes_changes_only_when_named(site: Writer, state: str) -> None:
    settings = load(None, XDG_STATE_HOME=state)
    assert settings.broker(changing=False).broker == "127.0.0.1:61999"
    assert settings.title == "local (127.0.0.1:61999)"
    with pytest.raises(ConfigError) as caught:
        settings.broker(changing=True)
    assert "-e local" in caught.value.hint
    named = load(None, "local", XDG_STATE_HOME=state)
    assert named.broker(changing=True).broker == "127.0.0.1:61999"
    assert named.recipe_directory == Path("/demo")
    path = site(f"version: 1\nb:{STOMP}s: {{plugin: storage}}\nenvironments: {{default: [b], none: [s]}}\n")
    assert load(path, XDG_STATE_HOME=state).broker(changing=True).broker == "broker.example.org:61613"
    assert load(path, "local", XDG_STATE_HOME=state).broker(changing=True).broker == "127.0.0.1:61999"
    with pytest.raises(ConfigError, match=r"'none' .* names no broker"):
        load(path, "none", XDG_STATE_HOME=state).broker(changing=False)


def test_an_environment_called_local_in_the_file_is_meant(site: Writer, state: str) -> None:
    path = site(f"version: 1\nb:{STOMP}environments: {{local: [b]}}\n")
    assert load(path, "local", XDG_STATE_HOME=state).broker(changing=True).broker == "broker.example.org:61613"


def test_a_local_stack_that_is_not_there_or_makes_no_sense(state: str) -> None:
    with pytest.raises(ConfigError, match="no local stack runs here"):
        load(None, "local")
    said = Path(state) / "zoctools" / "local.json"
    for text in ("{", "[]", "{}", '{"host": 1, "stomp_port": 2}', '{"host": "h", "stomp_port": "x"}'):
        said.write_text(text)
        with pytest.raises(ConfigError, match=r"local\.json"):
            load(None, XDG_STATE_HOME=state)


def test_options_of_the_old_names_outrank_and_never_default_in_silence(site: Writer) -> None:
    path = site(f"version: 1\nb:{STOMP}  hosts: [one, two]\nenvironments: {{default: [b]}}\n")
    settings = config.load(path, (), {}, {"host": "other"})
    assert settings.stomp is not None
    assert settings.stomp.broker == "other:61613"
    assert settings.stomp.password == "swordfish"
    assert settings.origin("stomp.host") == "option --stomp-host"
    alone = config.load(None, (), {}, {"host": "other", "port": 1})
    assert (alone.stomp.username, alone.stomp.password) == ("admin", "password")  # type: ignore[union-attr]
    assert any("old default of username, password, prefix" in warning for warning in alone.warnings)


def test_readonly(site: Writer) -> None:
    path = site("version: 1\nz: {plugin: zoctools, readonly: true}\nenvironments: {default: [z]}\n")
    assert load(path).readonly
    assert load(path).origin("zoctools.readonly") == f"{path}: z.readonly"


def test_loading_twice_shares_nothing(site: Writer) -> None:
    path = site("version: 1\na: {plugin: storage, x: {y: 1}}\nenvironments: {default: [a]}\n")
    first = load(path)
    first.storage["x"]["y"] = 2
    assert load(path).storage["x"]["y"] == 1


def test_check_looks_at_every_environment(site: Writer) -> None:
    path = site(
        "version: 1\nb: {plugin: stomp, host: h, port: 1, username: u, password-file: gone, prefix: z}\n"
        "environments: {default: [], live: [b]}\n"
    )
    with pytest.raises(ConfigError, match="gone: cannot be read"):
        config.check(path)
    assert config.environment_names(path, {}) == ["default", "live"]
