"""The generic wrapper: job parameters in, a real program run, its success judged and its files recorded."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoctools.command_job import Job
from zoctools.command_wrapper import CommandWrapper
from zoctools.errors import RecipeError
from zoctools.recipe.recipe import Recipe
from zoctools.recipe.step import Step
from zoctools.settings import Settings
from zoctools.wrapper import Failed

OUTPUTS = {"updates": 2, "result-individual-file": 3, "result-all-files": 4}
SHOW = [sys.executable, "-c", "import sys, json; print(json.dumps(sys.argv[1:]))"]


def a_step(payload=None, **job_parameters) -> Step:
    nodes = {"1": {"queue": "q", "job_parameters": job_parameters, "output": OUTPUTS}}
    others = {str(number): {"queue": name} for name, number in OUTPUTS.items()}
    return Step(Recipe({**nodes, **others, "start": [[1, []]]}), 1, payload=payload, environment={"ID": "the-id"})


def job_of(payload=None, **job_parameters) -> Job:
    return Job.of(a_step(payload, **job_parameters))


def sent(step: Step, output: str) -> list:
    return [json.loads(message.body)["payload"] for message in step.outbox if message.destination.name == output]


@pytest.fixture
def wrap(tmp_path):
    """Run the wrapper in a directory of its own; returns it and its step."""

    def wrapped(payload=None, settings=None, **job_parameters):
        step = a_step(payload, **({"working_directory": str(tmp_path / "work")} | job_parameters))
        wrapper = CommandWrapper(step, settings)
        return wrapper, step

    return wrapped


def test_a_program_is_run_in_its_directory_with_its_environment(wrap, tmp_path, monkeypatch):
    monkeypatch.setenv("TO_GO", "still here")
    monkeypatch.setenv("TO_STAY", "stays")
    wrapper, _ = wrap(
        command="sh -c 'pwd; echo \"$COLOUR $TO_STAY $TO_GO $NUMBER\"; echo oops >&2'",
        environment={"COLOUR": "re d", "TO_GO": None, "NUMBER": 5},
    )
    assert wrapper.run() is True
    assert wrapper.exit_code == 0
    work = tmp_path / "work"
    assert (work / "sh.out").read_text() == f"{work}\nre d stays  5\n"
    assert (work / "sh.err").read_text() == "oops\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["prog", "a b", 5, 0.5], ("prog", "a b", "5", "0.5")),
        ("prog 'a b' c\\ d \"e\"", ("prog", "a b", "c d", "e")),
        ("prog {name} --n={count}", ("prog", "it's a $(rm) ; name", "--n=3")),
        (["prog", "{name}"], ("prog", "it's a $(rm) ; name")),
        ("prog {images} {name}", ("prog", "a 1.cbf", "b.cbf", "it's a $(rm) ; name")),
        ("prog {file}", ("prog", "/from the/message")),
        ("prog {recipe_ID}", ("prog", "the-id")),
        ("prog {flag}", ("prog", "true")),
        ("prog '{print $1}' {{x}} '{}' '{0}' {a.b}", ("prog", "{print $1}", "{x}", "{}", "{0}", "{a.b}")),
    ],
)
def test_words_of_a_command(command, words):
    job = job_of(
        {"file": "/from the/message", "count": 99},
        command=command,
        name="it's a $(rm) ; name",
        count=3,
        images=["a 1.cbf", "b.cbf"],
        flag=True,
    )
    assert job.words == words


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.text(max_size=30))
def test_no_value_ever_becomes_more_than_one_word(value):
    try:
        job = job_of(command="prog --x={value} {value}", value=value)
    except RecipeError:
        assert "\0" in value or any("\ud800" <= character <= "\udfff" for character in value)
        return
    assert job.words == ("prog", f"--x={value}", value)


@pytest.mark.parametrize("value", ["$(touch pwned)", "; touch pwned", "`touch pwned`", "'\"\n touch pwned", "a\\", "*"])
def test_values_are_quoted_for_a_shell(wrap, tmp_path, value):
    wrapper, _ = wrap(command="printf %s {value} | cat", shell=True, value=value, stdout="out")
    assert wrapper.run() is True
    assert (tmp_path / "work" / "out").read_text() == value
    assert not (tmp_path / "work" / "pwned").exists()


@pytest.mark.parametrize(
    "command",
    ['printf %s "{value}"', "printf %s '{value}'", "cat <<END\n{value}\nEND", "x=`echo {value}`"],
)
@pytest.mark.parametrize("value", ["$(touch pwned)", "`touch pwned`", "'; touch pwned; '", '"; touch pwned; "'])
def test_no_value_is_run_wherever_in_a_shell_command_it_stands(wrap, tmp_path, command, value):
    wrapper, _ = wrap(command=command, shell=True, value=value)
    with contextlib.suppress(Failed):
        wrapper.run()
    assert (tmp_path / "work" / "command.out").exists()
    assert not (tmp_path / "work" / "pwned").exists()


def test_without_the_word_shell_there_is_no_shell(wrap, tmp_path):
    wrapper, _ = wrap(command="echo $HOME | cat > x; touch y", program_name="p")
    assert wrapper.run() is True
    assert (tmp_path / "work" / "p.out").read_text() == "$HOME | cat > x; touch y\n"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({}, "command must be a list of words or text"),
        ({"command": 5}, "command must be a list"),
        ({"command": []}, "command names no program"),
        ({"command": ""}, "command names no program"),
        ({"command": [""]}, "command names no program"),
        ({"command": ["a", None]}, "neither text nor a number"),
        ({"command": "a 'b"}, "cannot be split into words"),
        ({"command": "a {nobody}"}, "{nobody} is neither a job parameter nor in the message"),
        ({"command": "a x{list}", "list": [1]}, "{list} is neither text nor a number"),
        ({"command": "a {list}", "list": [[1]]}, "{list} is neither text nor a number"),
        ({"command": ["a\0b"]}, "command holds a character"),
        ({"command": "a", "shell": "yes"}, "shell must be true or false"),
        ({"command": ["a"], "shell": True}, "command must be text for a shell"),
        ({"command": "a", "timeout": "soon"}, "timeout must be a number of seconds"),
        ({"command": "a", "timeout": 0}, "timeout must be"),
        ({"command": "a", "timeout": float("nan")}, "timeout must be"),
        ({"command": "a", "timeout": True}, "timeout must be"),
        ({"command": "a", "success": {"required_texts": ["\ud800"]}}, "required_texts holds a character"),
        ({"command": "a", "timeout": 10**400}, "timeout must be"),
        ({"command": "a", "working_directory": "relative"}, "working_directory must be an absolute path"),
        ({"command": "a", "working_directory": "/a/../b"}, "working_directory must be an absolute path"),
        ({"command": "a", "working_directory": 5}, "working_directory must be text"),
        ({"command": "a", "environment": ["A=B"]}, "environment must be an object"),
        ({"command": "a", "environment": {"A=B": "c"}}, "cannot be the name of a variable"),
        ({"command": "a", "environment": {"A": [1]}}, "environment {A} is neither"),
        ({"command": "a", "environment": {"A": "b\0"}}, "environment holds a character"),
        ({"command": "a", "stdout": "../out"}, "stdout must lie within"),
        ({"command": "a", "stdout": "/out"}, "stdout must lie within"),
        ({"command": "a", "program_name": "a/b"}, "program_name is not a name"),
        ({"command": "a", "success": {"exit_codes": ["0"]}}, "success.exit_codes must be"),
        ({"command": "a", "success": {"exit_codes": []}}, "success.exit_codes must be"),
        ({"command": "a", "success": {"required_files": ["../x"]}}, "success.required_files must lie within"),
        ({"command": "a", "success": {"required_texts": [""]}}, "success.required_texts must be"),
        ({"command": "a", "success": {"typo": 1}}, "success.typo is not one of"),
        ({"command": "a", "files": "*.log"}, "files must be a list"),
        ({"command": "a", "files": [{"file_type": "log"}]}, "files[0] must be a pattern"),
        ({"command": "a", "files": ["*.x", "../*"]}, "files[1] must lie within"),
        ({"command": "a", "files": [{"pattern": "*", "rank": 1}]}, "files[0].rank is not one of"),
        ({"command": "a", "files": [{"pattern": "*", "importance_rank": "1"}]}, "files[0].importance_rank"),
        ({"command": "a", "results_directory": "x"}, "results_directory must be an absolute path"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_node(wrap, wrong, says):
    with pytest.raises(RecipeError) as caught:
        job_of(**wrong)
    assert caught.value.message.startswith("node 1: job_parameters.")
    assert says in caught.value.message
    wrapper, step = wrap(**({"working_directory": "/nonexistent/never"} | wrong))
    with pytest.raises(Failed, match="node 1: job_parameters"):
        wrapper.run()
    assert step.outbox == []


def test_numbers_that_a_template_made_text_are_numbers():
    assert job_of(command="a", timeout="3600").timeout == 3600


def test_directories_outside_the_allowed_ones_are_refused(tmp_path):
    allowed = Settings(allowed_roots=(tmp_path / "ok",))
    assert Job.of(a_step(command="a", working_directory=f"{tmp_path}/ok/x"), allowed).directory == tmp_path / "ok" / "x"
    for key in ("working_directory", "results_directory"):
        with pytest.raises(RecipeError, match=f"{key} is outside"):
            Job.of(a_step(command="a", **{key: f"{tmp_path}/elsewhere"}), allowed)


@pytest.mark.parametrize(
    ("script", "success", "fault"),
    [
        ("exit 0", {}, ""),
        ("exit 3", {}, "exit status 3"),
        ("exit 3", {"exit_codes": [0, 3]}, ""),
        ("exit 3", {"exit_codes": 3}, ""),
        ("exit 0", {"exit_codes": [3]}, "exit status 0"),
        ("kill -9 $$", {"exit_codes": [0, 9, 137]}, "SIGKILL"),
        ("touch a.mtz", {"required_files": ["a.mtz"]}, ""),
        ("mkdir a.mtz", {"required_files": ["a.mtz"]}, "file a.mtz is missing"),
        ("exit 0", {"required_files": "a.mtz"}, "file a.mtz is missing"),
        ("touch x.error", {"forbidden_files": ["x.error"]}, "file x.error exists"),
        ("echo all is well", {"required_texts": ["is well"]}, ""),
        ("echo all is well >&2", {"required_texts": ["is well"]}, ""),
        ("echo hm", {"required_texts": ["is well"]}, "does not say 'is well'"),
        ("echo Giving up", {"forbidden_texts": ["Giving up"]}, "says 'Giving up'"),
        ("exit 2", {"required_files": ["a"], "required_texts": ["b"]}, "a is missing, its output does not say 'b'"),
    ],
)
def test_success_is_what_the_rule_says(wrap, script, success, fault):
    wrapper, _ = wrap(command=["sh", "-c", script], success=success, program_name="it")
    if not fault:
        assert wrapper.run() is True
        return
    with pytest.raises(Failed, match="it: ") as caught:
        wrapper.run()
    assert fault in str(caught.value)


def test_a_program_out_of_time_fails(wrap):
    wrapper, _ = wrap(command="sleep 600", timeout="0.3")
    with pytest.raises(Failed, match="sleep: ran out of time"):
        wrapper.run()
    assert wrapper.exit_code == 124


def test_files_are_recorded_one_by_one_and_together(wrap, tmp_path):
    work = tmp_path / "work"
    wrapper, step = wrap(
        command=["sh", "-c", "mkdir sub; touch b.mtz a.mtz x.log sub/c.mtz other; echo done"],
        files=[
            {"pattern": "*.mtz", "importance_rank": 1},
            {"pattern": "x.*"},
            {"pattern": "**/*.mtz", "file_type": "graph"},
            "sh.out",
            "nothing*",
        ],
    )
    assert wrapper.run() is True
    expected = [
        ("a.mtz", work, "result", 1),
        ("b.mtz", work, "result", 1),
        ("x.log", work, "log", None),
        ("c.mtz", work / "sub", "graph", None),
        ("sh.out", work, "log", None),
    ]
    assert sent(step, "result-individual-file") == [
        {"file_path": str(path), "file_name": name, "file_type": kind} | ({"importance_rank": rank} if rank else {})
        for name, path, kind, rank in expected
    ]
    assert sent(step, "result-all-files") == [{"filelist": [str(path / name) for name, path, _kind, _rank in expected]}]


def test_without_files_nothing_is_recorded(wrap):
    wrapper, step = wrap(command="true")
    assert wrapper.run() is True
    assert step.outbox == []


def test_results_are_copied_and_recorded_where_they_are_kept(wrap, tmp_path):
    results = tmp_path / "processed" / "it"
    wrapper, step = wrap(
        command=["sh", "-c", "mkdir sub; echo data > sub/a.mtz; ln -s sub/a.mtz link.mtz"],
        files=["**/*.mtz"],
        results_directory=str(results),
    )
    assert wrapper.run() is True
    assert (results / "sub" / "a.mtz").read_text() == (results / "link.mtz").read_text() == "data\n"
    assert sorted(path.name for path in results.rglob("*")) == ["a.mtz", "link.mtz", "sub"]
    assert {record["file_path"] for record in sent(step, "result-individual-file")} == {str(results), f"{results}/sub"}


def test_the_files_of_a_failed_program_are_recorded_too(wrap):
    wrapper, step = wrap(command=["sh", "-c", "echo why; exit 1"], files=["*.out"])
    with pytest.raises(Failed):
        wrapper.run()
    assert [record["file_name"] for record in sent(step, "result-individual-file")] == ["sh.out"]


def test_a_results_directory_that_cannot_be_written_fails_the_task(wrap, tmp_path):
    (tmp_path / "file").touch()
    wrapper, _ = wrap(command="true", files=["true.out"], results_directory=f"{tmp_path}/file/x")
    with pytest.raises(Failed, match="cannot copy"):
        wrapper.run()


@pytest.mark.parametrize("directory", ["/proc/nowhere", "{tmp}/file/x"])
def test_a_working_directory_that_cannot_be_made_fails_the_task(wrap, tmp_path, directory):
    (tmp_path / "file").touch()
    wrapper, _ = wrap(command="true", working_directory=directory.replace("{tmp}", str(tmp_path)))
    with pytest.raises(Failed, match=r"nowhere|file"):
        wrapper.run()


def test_a_program_that_is_not_there_fails_the_task(wrap):
    wrapper, _ = wrap(command="no-such-program-anywhere x")
    with pytest.raises(Failed, match="cannot start no-such-program-anywhere"):
        wrapper.run()
    assert wrapper.exit_code is None


def test_a_pattern_that_is_none_fails_the_task(wrap):
    wrapper, _ = wrap(command="true", files=["a**"])
    if sys.version_info < (3, 13):
        with pytest.raises(Failed, match="is no pattern"):
            wrapper.run()
    else:
        assert wrapper.run() is True


def test_the_end_of_the_output_is_logged_safely(wrap, caplog):
    caplog.set_level(logging.INFO)
    wrapper, _ = wrap(command=["sh", "-c", r"printf 'first\n\033[2Jlast\n'; exit 3"])
    with pytest.raises(Failed):
        wrapper.run()
    (record,) = (record for record in caplog.records if "the end of" in record.getMessage())
    assert record.levelname == "ERROR"
    assert record.getMessage().endswith("first\n\\x1b[2Jlast")


def test_output_and_errors_of_the_same_name_share_a_file(wrap, tmp_path):
    wrapper, _ = wrap(
        command=["sh", "-c", "echo a; echo b >&2"], stdout="logs/{name}", stderr="logs/{name}", name="x.log"
    )
    assert wrapper.run() is True
    assert (tmp_path / "work" / "logs" / "x.log").read_text() == "a\nb\n"


def test_hostile_names_of_results_are_recorded_as_they_are(wrap, tmp_path):
    name = "esc\x1b[2J [bold]\n.mtz"
    wrapper, step = wrap(command=["touch", "--", name, "-rf.mtz"], files=["*.mtz"])
    assert wrapper.run() is True
    assert {record["file_name"] for record in sent(step, "result-individual-file")} == {name, "-rf.mtz"}
    assert Path(sent(step, "result-all-files")[0]["filelist"][0]).exists()


def test_a_pattern_of_endless_directories_is_a_failure_in_words(wrap):
    wrapper, _ = wrap(command="true", files=["**/" * 2000 + "x"])
    with pytest.raises(Failed, match="is no pattern of files"):
        wrapper.run()


def test_a_pipe_in_the_place_of_the_output_is_a_failure_and_no_wait(wrap, tmp_path):
    (tmp_path / "work").mkdir()
    os.mkfifo(tmp_path / "work" / "true.out")
    wrapper, _ = wrap(command="true")
    with pytest.raises(Failed, match=r"true\.out: No such device"):
        wrapper.run()
