"""The rules of the house: who may import whom, who may write to the terminal, how large a room may be."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from zoctools.cli import manual
from zoctools.cli.main import TABLE, zoc

ROOT = Path(__file__).parents[1]
LAYERS = (
    "text",
    "errors",
    "site",
    "plugins",
    "settings",
    "config",
    "hosts",
    "headers",
    "logs",
    "http",
    "program",
    "broker",
    "transport",
    "recipe",
    "service",
    "wrapper",
    "stop",
    "task",
    "command_job",
    "command_wrapper",
    "where",
    "broadcast",
    "snapshot",
    "board",
    "listener",
    "http",
    "queues",
    "graylog",
    "deadletter",
    "logbook",
    "trace",
    "testing",
    "dropfiles",
    "doctor",
    "shutdown",
    "doctor",
    "stack",
    "demo",
    "tui",
    "cli",
    "__main__",
)
"""Lowest first; a layer imports only from those above it in this list."""
FACES = ("cli", "tui")
SCREENS = ("click", "textual", "rich")
HEAVY = ("textual", "rich", "requests", "stomp")
LONGEST = 450
"""Lines of the longest file; 400 is what we aim for."""


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def layer_of(module: str) -> str:
    return module.split(".")[1] if module.count(".") else ""


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Give line and module of every import of a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            module = node.module or ""
            if module == "zoctools":
                yield from ((node.lineno, f"zoctools.{name.name}") for name in node.names)
            else:
                yield node.lineno, module


def test_every_module_has_its_place_in_the_list() -> None:
    found = {path.stem if path.is_file() else path.name for path in (ROOT / "zoctools").iterdir()}
    found -= {"__init__", "__main__", "__pycache__"}
    unplaced = {name for name in found if (ROOT / "zoctools" / f"{name}.py").exists() or _has_code(name)} - set(LAYERS)
    assert not unplaced, f"say in LAYERS where {sorted(unplaced)} belong"


def _has_code(name: str) -> bool:
    return any((ROOT / "zoctools" / name).glob("**/*.py"))


def test_imports_go_up_the_list_and_never_down() -> None:
    wrong = []
    for path in sources("zoctools"):
        place = path.relative_to(ROOT / "zoctools").parts[0].removesuffix(".py")
        if place in ("__init__", "__main__"):
            continue
        for line, module in imported(path):
            if not module.startswith("zoctools."):
                continue
            other = layer_of(module)
            if other in LAYERS and LAYERS.index(other) > LAYERS.index(place):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {place} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_only_the_faces_know_screens() -> None:
    wrong = []
    for path in sources("zoctools", "services"):
        if path.relative_to(ROOT).parts[1] in FACES:
            continue
        wrong += [
            f"{path.relative_to(ROOT)}:{line}: imports {module}"
            for line, module in imported(path)
            if module.split(".")[0] in SCREENS
        ]
    assert not wrong, "\n".join(wrong)


def test_only_the_faces_write_to_the_terminal() -> None:
    wrong = []
    for path in sources("zoctools", "services"):
        if path.relative_to(ROOT).parts[1] in FACES:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            prints = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            streams = (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "sys"
                and node.attr in ("stdout", "stderr", "__stdout__", "__stderr__")
            )
            if prints or streams:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not wrong, f"only zoctools.cli and zoctools.tui write to stdout and stderr: {wrong}"


def test_nobody_imports_the_services() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources("zoctools")
        for line, module in imported(path)
        if module.split(".")[0] == "zocservices"
    ]
    assert not wrong, f"zocservices is found through its entry points only: {wrong}"


def test_files_can_be_read_in_one_sitting() -> None:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources("zoctools", "services")}
    too_long = [f"{path.relative_to(ROOT)}: {lines} lines" for path, lines in sizes.items() if lines > LONGEST]
    assert not too_long, "\n".join(too_long)


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        (["--help"], {}),
        (["--version"], {}),
        (["config", "--help"], {}),
        (["nosuch"], {}),
        ([], {"_ZOC_COMPLETE": "bash_complete", "COMP_WORDS": "zoc s", "COMP_CWORD": "1"}),
        ([], {"_ZOC_COMPLETE": "zsh_complete", "COMP_WORDS": "zoc go --", "COMP_CWORD": "2"}),
        ([], {"_ZOC_COMPLETE": "fish_complete", "COMP_WORDS": "zoc go", "COMP_CWORD": ""}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_help_and_completion_load_nothing_heavy(words: list[str], environ: dict[str, str]) -> None:
    program = (
        "import sys\n"
        "from zoctools.cli.main import main\n"
        f"sys.argv = ['zoc', *{words!r}]\n"
        "try:\n    main()\n"
        "finally:\n"
        f"    loaded = [name for name in {(*HEAVY, 'yaml')!r} if name in sys.modules]\n"
        "    sys.stderr.write(f'LOADED {loaded}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **environ}, timeout=60
    )
    assert done.stderr.endswith("LOADED []"), done.stderr


def root_context() -> click.Context:
    return click.Context(zoc, info_name="zoc", **zoc.context_settings)


def commands(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, f"{name} is listed and cannot be loaded"
        inner = click.Context(command, parent=context, info_name=name)
        yield inner.command_path, command
        if isinstance(command, click.Group):
            yield from commands(command, inner)


def test_every_command_has_help_and_says_what_its_options_are() -> None:
    for path, command in commands(zoc, root_context()):
        assert command.help and len(command.help.strip()) > 10, f"{path} has no help"
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.help, f"{path}: {parameter.opts[0]} has no help"
        names = [name for parameter in command.params for name in parameter.opts]
        assert names.count("-e") == 1, f"{path}: -e is the environment, everywhere, and nothing else"


def test_every_entry_of_the_table_loads_and_bears_its_name() -> None:
    context = root_context()
    for entry in TABLE:
        command = zoc.get_command(context, entry.name)
        assert command is not None
        assert command.name == entry.name
        if not isinstance(command, click.Group):
            assert getattr(command, "changing", False) is entry.changing, entry.name


def test_man_pages_are_current() -> None:
    wanted = dict(manual.pages())
    found = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "man").iterdir()}
    assert sorted(found) == sorted(wanted), "run 'make manual'"
    for name, content in wanted.items():
        assert found[name] == content, f"man/{name} is not current: run 'make manual'"


def test_completions_are_current() -> None:
    wanted = dict(manual.completions())
    found = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "completions").iterdir()}
    assert found == wanted, "run 'make manual'"


@pytest.mark.parametrize(("shell", "script"), [("bash", "zoc.bash"), ("zsh", "_zoc"), ("fish", "zoc.fish")])
def test_completions_are_valid_scripts(shell: str, script: str) -> None:
    try:
        done = subprocess.run([shell, "-n", str(ROOT / "completions" / script)], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip(f"{shell} is not installed")
    assert done.returncode == 0, done.stderr


def tracked() -> list[Path]:
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_depends_on_the_machine_it_was_written_on() -> None:
    forbidden = [
        "/".join(("", "work", "")),
        "/".join(("", "root", "")),
        "python" + "hosted.org",
        "pypi" + ".org/simple",
    ]
    forbidden += ["index" + "-url", "artifact" + "ory"]
    wrong = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "replace")
        wrong += [f"{path.relative_to(ROOT)}: {word}" for word in forbidden if word in text]
    assert not wrong, "\n".join(wrong)
