import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoctools.errors import BadFile, UsageError, ZocError
from zoctools.logbook import INDEX, Line, Logbook, Record, data_collection_id, line_of, neat, read_file, split_sections

ID = "42ee2fdd-589b-4f5e-b13f-3e00c819dab4"
RECIPE = {"1": {"queue": "filewatcher", "output": {"every": [2]}}, "2": {"queue": "b"}, "start": [[1, []]]}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def record(recipe_ID: str = ID, **changes: object) -> Record:
    request = {"parameters": {"ispyb_dcid": 5073790, "guid": recipe_ID}, "recipes": ["archive-cbfs"]}
    values = {"header": {"zocalo.go.user": "gda"}, "incoming": request, "parsed": request, "recipe": RECIPE}
    return Record(recipe_ID, **{**values, **changes})


def month(when: float) -> str:
    return time.strftime("%Y-%m", time.localtime(when))


def test_a_record_is_written_where_and_as_the_existing_readers_expect_it(tmp_path: Path) -> None:
    now = time.time()
    path = Logbook(tmp_path / "book").write(record(parsed={"b": 1, "a": [True, None]}), now=now)
    assert path == tmp_path / "book" / month(now) / "42" / ID[2:]
    header, incoming, parsed, recipe = (
        json.dumps(value, indent=2, sort_keys=True, separators=(",", ": "))
        for value in (record().header, record().incoming, {"a": [True, None], "b": 1}, RECIPE)
    )
    assert path.read_text() == (
        f"Incoming message header:\n{header}\n\nIncoming message body:\n{incoming}\n\n"
        f"Parsed message body:\n{parsed}\n\nRecipe object:\n{recipe}\n"
    )


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path)
    logbook.write(record())
    found = logbook.read(ID)
    assert (found.header, found.incoming, found.parsed, found.recipe) == (
        record().header,
        record().incoming,
        record().parsed,
        RECIPE,
    )
    assert found.recipe_ID == ID


@settings(derandomize=True, deadline=None)
@given(json_values)
def test_neat_writes_what_the_standard_library_writes(value: object) -> None:
    assert neat(value) == json.dumps(value, indent=2, sort_keys=True, separators=(",", ": "))


def test_what_is_not_json_is_shown_as_text() -> None:
    assert json.loads(neat({1: {"path": Path("/x")}, None: (1, 2)})) == {"1": {"path": "/x"}, "None": [1, 2]}


def test_values_nested_too_deep_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="too deep"):
        Logbook(tmp_path).write(record(incoming=deep))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_of_the_existing_dispatcher_is_read(tmp_path: Path) -> None:
    path = tmp_path / "2020-06" / "42" / ID[2:]
    path.parent.mkdir(parents=True)
    path.write_text(
        'Incoming message header:\n{\n  "a": "b:"\n}\n\nIncoming message body:\n{\n  "recipes": ["x"]\n}\n\n'
        'Parsed message body:\n{\n  "recipe": "<workflows.recipe.recipe.Recipe object at 0x7ff4>"\n}\n\n'
        f"Recipe object:\n{json.dumps(RECIPE)}\n"
    )
    found = Logbook(tmp_path).read(ID)
    assert found.parsed == {"recipe": "<workflows.recipe.recipe.Recipe object at 0x7ff4>"}
    assert found.recipe == RECIPE
    assert found.header == {"a": "b:"}


@pytest.mark.parametrize("text", ["", "rubbish\n", "\0\x1b", "{}\n"])
def test_what_is_no_logbook_file_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    with pytest.raises(BadFile, match="not a logbook file"):
        read_file(path)


def test_a_torn_file_names_the_section(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text('Incoming message body:\n{"a": ')
    with pytest.raises(BadFile, match="'Incoming message body' is not JSON"):
        read_file(path)


@settings(derandomize=True, deadline=None)
@given(st.text())
def test_any_text_is_split_into_sections(text: str) -> None:
    for title in split_sections(text):
        assert not title.startswith(" ")


@pytest.mark.parametrize(
    "recipe_ID", ["", "a", "../../etc/passwd", "a/" * 33 + "/../../../../var/evil", "x" * 65, "a.b", "a\nb", "ab\0c", 5]
)
def test_nothing_but_a_recipe_id_becomes_a_file_name(tmp_path: Path, recipe_ID: str) -> None:
    logbook = Logbook(tmp_path / "inside")
    with pytest.raises(ValueError, match="not a recipe ID"):
        logbook.write(record(recipe_ID))
    with pytest.raises(UsageError, match="is not a recipe ID"):
        logbook.find(recipe_ID)
    assert list(tmp_path.rglob("*")) == []


def test_the_newest_file_of_an_id_is_found(tmp_path: Path) -> None:
    for name in ("2020-05", "2021-01", "not-a-month"):
        path = tmp_path / name / "42" / ID[2:]
        path.parent.mkdir(parents=True)
        path.write_text(record().to_text())
    assert Logbook(tmp_path).find(ID).parts[-3] == "2021-01"


def test_a_unique_beginning_is_enough_and_an_ambiguous_one_lists_its_recipes(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path)
    logbook.write(record())
    assert logbook.find(ID[:9]).name == ID[2:]
    assert logbook.find(ID[:13].upper()).name == ID[2:]
    logbook.write(record(ID[:-1] + "5"))
    with pytest.raises(UsageError, match="2 recipe IDs"):
        logbook.find(ID[:8])
    with pytest.raises(ZocError, match="no recipe"):
        logbook.find(ID[:7])


def test_a_recipe_that_is_not_there_is_no_and_a_logbook_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZocError, match="no recipe"):
        Logbook(tmp_path).find(ID)
    with pytest.raises(BadFile, match="cannot be read"):
        Logbook(tmp_path / "nowhere").find(ID)


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path)
    logbook.write(record(incoming={"long": "x" * 10_000}))
    path = logbook.write(record())
    assert read_file(path).incoming == record().incoming
    assert [name.name for name in path.parent.iterdir()] == [path.name]


def test_a_full_disk_leaves_the_old_file_as_it_was_and_no_half_of_a_new_one(tmp_path: Path) -> None:
    path = Logbook(tmp_path).write(record())
    program = (
        "import resource, sys; from pathlib import Path; from zoctools.logbook import *\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        f"try: Logbook(Path(sys.argv[1])).write(Record({ID!r}, incoming='x' * 100_000))\n"
        "except OSError as error: print(error.strerror)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert read_file(path).incoming == record().incoming
    assert [name.name for name in path.parent.iterdir()] == [path.name]


def test_the_index_finds_a_data_collection_newest_first(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path)
    for number in range(5):
        one = record(f"aaaa-{number}")
        logbook.write(one, line_of(one, {"ispyb_dcid": str(7 + number % 2), "ispyb_visit": "cm1-1"}, ["r"]))
    lines = list(logbook.of_collection(7))
    assert [line.recipe_ID for line in lines] == ["aaaa-4", "aaaa-2", "aaaa-0"]
    assert (lines[0].dcid, lines[0].recipes, lines[0].visit, lines[0].user) == (7, ("r",), "cm1-1", "gda")
    assert list(logbook.of_collection(77)) == []


def test_months_of_the_index_are_read_newest_first(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path)
    for number, when in enumerate((1_700_000_000.0, 1_800_000_000.0, 1_750_000_000.0)):
        one = record(f"aaaa-{number}")
        logbook.write(one, line_of(one, {"ispyb_dcid": 7}, []), now=when)
    assert [line.recipe_ID for line in logbook.of_collection(7)] == ["aaaa-1", "aaaa-2", "aaaa-0"]


def test_torn_and_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path)
    one = record()
    index = logbook.write(one, line_of(one, {"ispyb_dcid": 7}, ["r"])).parent.parent / INDEX
    with index.open("ab") as file:
        file.write(b'not json 7\n[7]\n{"recipe_ID": "../7"}\n\xff\xfe 7\n' + b"[" * 100_000 + b"7\n")
        file.write(b'{"recipe_ID": "abc-7", "dcid": "7", "recipes": 7, "user": ["7"]}\n')
        file.write(b'{"time": "2026-11-24T00:00:00", "recipe_ID": "torn-7", "dc')
    other = record("bbb-7")
    logbook.write(other, line_of(other, {"dcid": 7}, []))
    assert [line.recipe_ID for line in logbook.lines()] == ["bbb-7", "abc-7", ID]
    assert [line.recipe_ID for line in logbook.of_collection(7)] == ["bbb-7", ID]


@settings(derandomize=True, deadline=None)
@given(json_values)
def test_any_json_is_a_line_or_none(value: object) -> None:
    assert isinstance(Line.parse(json.dumps(value)), Line | None)


def test_several_writers_append_whole_lines(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from zoctools.logbook import *\n"
        "for number in range(100):\n"
        "    one = Record(f'{sys.argv[2]}-{number}', header={'zocalo.go.user': 'u' * 150})\n"
        "    Logbook(Path(sys.argv[1])).write(one, line_of(one, {'ispyb_dcid': number}, ['r'] * 30))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), name], env={**os.environ, "TZ": "UTC"})
        for name in ("one", "two", "three")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    found = {line.recipe_ID for line in Logbook(tmp_path).lines()}
    assert found == {f"{name}-{number}" for name in ("one", "two", "three") for number in range(100)}


@pytest.mark.parametrize(
    ("value", "number"),
    [(5, 5), ("5", 5), (0, 0), (True, None), ("5a", None), ("-1", None), (-1, None), (10**30, None), ([5], None)],
)
def test_a_data_collection_id_is_a_number(value: object, number: int | None) -> None:
    assert data_collection_id(value) == number
