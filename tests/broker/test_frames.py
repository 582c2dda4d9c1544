"""The STOMP codec: what it writes it reads again, however the bytes are cut, and nothing foreign breaks it."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoctools.broker.frames import VERSIONS, Frame, FrameError, FrameReader, Limits, assemble, encode, escape, unescape

text_1_2 = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
text_1_1 = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=40)
text_1_0 = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n:"), max_size=40)
text_of = {"1.0": text_1_0, "1.1": text_1_1, "1.2": text_1_2}
commands = st.sampled_from(["SEND", "MESSAGE", "RECEIPT", "ERROR", "ACK", "BEGIN", "COMMIT", "SUBSCRIBE"])


@st.composite
def frames(draw: st.DrawFn, version: str) -> Frame:
    text = text_of[version]
    headers = draw(st.dictionaries(text.filter(bool), text, max_size=8))
    headers.pop("content-length", None)
    return Frame(draw(commands), headers, draw(st.binary(max_size=200)))


def without_length(frame: Frame) -> Frame:
    return frame._replace(headers={name: value for name, value in frame.headers.items() if name != "content-length"})


def read_in_pieces(data: bytes, cuts: list[int], version: str = "1.2") -> list[Frame]:
    reader = FrameReader(version)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    found = [frame for a, b in itertools.pairwise(places) for frame in reader.feed(data[a:b])]
    assert reader.pending == 0
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_frames_survive_the_wire_whatever_way_they_are_cut(version: str) -> None:
    @settings(derandomize=True, deadline=None, max_examples=150)
    @given(st.lists(frames(version), max_size=4), st.lists(st.integers(0, 10_000), max_size=12))
    def check(sent: list[Frame], cuts: list[int]) -> None:
        data = b"\n".join(encode(*frame, version) for frame in sent)
        assert [without_length(frame) for frame in read_in_pieces(data, cuts, version)] == sent

    check()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(frames("1.2"), min_size=1, max_size=3))
def test_frames_survive_byte_by_byte(sent: list[Frame]) -> None:
    reader = FrameReader()
    data = b"".join(encode(*frame) for frame in sent)
    found = [frame for byte in data for frame in reader.feed(bytes([byte]))]
    assert [without_length(frame) for frame in found] == sent


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.binary(max_size=300), st.lists(st.integers(0, 1000), max_size=5))
def test_foreign_bytes_give_frames_or_a_frame_error(data: bytes, cuts: list[int]) -> None:
    reader = FrameReader(limits=Limits(headers=5, line=50, head=100, body=100))
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    try:
        for a, b in itertools.pairwise(places):
            reader.feed(data[a:b])
            assert reader.pending <= 100 + 3 + 100 + 1
    except FrameError as error:
        assert str(error)


def test_damaged_frames_give_frames_or_a_frame_error() -> None:
    dice = random.Random(5)
    whole = encode("MESSAGE", {"destination": "/queue/a:b", "path": "C:\\data\nx"}, b"body\0with\nnul") * 3
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            FrameReader().feed(bytes(data))
        except FrameError as error:
            assert "\n" not in str(error)


def test_a_body_without_length_ends_at_nul() -> None:
    assert FrameReader().feed(b"MESSAGE\na:b\n\nhello\0\nRECEIPT\n\n\0") == [
        Frame("MESSAGE", {"a": "b"}, b"hello"),
        Frame("RECEIPT", {}, b""),
    ]


def test_a_body_with_length_may_hold_nul() -> None:
    assert FrameReader().feed(b"MESSAGE\ncontent-length:3\n\n\0\0\0\0")[0].body == b"\0\0\0"


def test_lines_may_end_as_dos_ends_them() -> None:
    data = b"\r\n\r\nMESSAGE\r\na:b\r\nc:d\r\n\r\nbody\n\nmore\0\r\n"
    assert FrameReader().feed(data) == [Frame("MESSAGE", {"a": "b", "c": "d"}, b"body\n\nmore")]


def test_a_blank_line_in_the_body_does_not_end_dos_headers_early() -> None:
    assert FrameReader().feed(b"MESSAGE\na:b\n\r\nx\n\ny\0")[0].body == b"x\n\ny"


def test_of_a_repeated_header_the_first_counts() -> None:
    assert FrameReader().feed(b"MESSAGE\nfoo:World\nbar:x\nfoo:Hello\n\n\0")[0].headers == {"foo": "World", "bar": "x"}


def test_values_keep_their_spaces_and_colons() -> None:
    assert FrameReader().feed(b"MESSAGE\na: b : c \n\n\0")[0].headers == {"a": " b : c "}


def test_heart_beats_are_no_frames_and_hold_no_memory() -> None:
    reader = FrameReader()
    assert reader.feed(b"\n" * 100_000) == []
    assert reader.feed(b"\n\r\n") == []
    assert reader.pending == 0


def test_connected_is_never_unescaped() -> None:
    assert FrameReader().feed(b"CONNECTED\nserver:a\\tb\nsession:x:y\n\n\0")[0].headers == {
        "server": "a\\tb",
        "session": "x:y",
    }


def test_connect_is_never_escaped() -> None:
    assert b"passcode:a:b\\c\n" in encode("CONNECT", {"passcode": "a:b\\c"})


def test_version_1_0_knows_no_escapes() -> None:
    assert FrameReader("1.0").feed(b"MESSAGE\npath:C:\\temp\n\n\0")[0].headers == {"path": "C:\\temp"}
    assert escape("a:\\", "1.0") == "a:\\"


@pytest.mark.parametrize("text", ["\\", "\\\\n", "a\\nb", "\\c:\n\r\\"])
def test_escapes_are_undone_exactly(text: str) -> None:
    assert unescape(escape(text)) == text


def test_carriage_returns_are_escaped_from_1_2_on() -> None:
    assert escape("\r", "1.2") == "\\r"
    assert escape("\r", "1.1") == "\r"
    with pytest.raises(FrameError, match="unknown escape"):
        unescape("\\r", "1.1")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"MESSAGE\na:\\t\n\n\0", "unknown escape"),
        (b"MESSAGE\na:trailing\\\n\n\0", "unknown escape"),
        (b"MESSAGE\nno colon\n\n\0", "without a colon: 'no colon'"),
        (b"MESSAGE\ncontent-length:abc\n\n\0", "content-length is 'abc'"),
        (b"MESSAGE\ncontent-length:-1\n\n\0", "content-length is '-1'"),
        (b"MESSAGE\ncontent-length:" + b"9" * 30 + b"\n\n\0", "content-length is"),
        ("MESSAGE\ncontent-length:٣\n\n\0".encode(), "content-length is"),
        (b"MESSAGE\ncontent-length:2\n\nlonger\0", "longer than its content-length of 2"),
        (b"HTTP/1.1 400 Bad Request\nServer: x\n\n\0", "not a STOMP command: 'HTTP/1.1 400 Bad Request'"),
        (b"garbage\0", "not a STOMP frame: 'garbage'"),
        (b"\x16\x03\x01\x02\x00\x01", "not a STOMP frame"),
        (b"M\0SSAGE\n\n\0", "not a STOMP frame"),
    ],
)
def test_what_is_not_stomp_is_named(data: bytes, words: str) -> None:
    with pytest.raises(FrameError, match=words.replace(".", r"\.")):
        FrameReader().feed(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"MESSAGE\n" + b"a:b\n" * 6 + b"\n\0", "more than 5 headers"),
        (b"MESSAGE\na:" + b"x" * 60 + b"\n\n\0", "line of more than 50 bytes"),
        (b"MESSAGE\na:b\n" + b"x" * 200, "headers of more than 100 bytes"),
        (b"x" * 200, "headers of more than 100 bytes"),
        (b"MESSAGE\ncontent-length:101\n\n\0", "a body of 101 bytes; at most 100 are taken"),
        (b"MESSAGE\n\n" + b"x" * 150, "a body of more than 100 bytes"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_more_than_the_limits_is_refused_however_it_arrives(data: bytes, words: str, step: int) -> None:
    reader = FrameReader(limits=Limits(headers=5, line=50, head=100, body=100))
    with pytest.raises(FrameError, match=words):
        for start in range(0, len(data), step):
            reader.feed(data[start : start + step])


def test_a_large_body_in_small_pieces_is_put_together_once() -> None:
    body = bytes(range(256)) * 40_000
    data = encode("MESSAGE", {"a": "b"}, body)
    reader = FrameReader()
    found = [frame for start in range(0, len(data), 4096) for frame in reader.feed(data[start : start + 4096])]
    assert [frame.body for frame in found] == [body]


def test_bytes_that_are_not_utf_8_do_not_end_the_connection() -> None:
    assert FrameReader().feed(b"MESSAGE\na:\xff\n\nx\0") == [Frame("MESSAGE", {"a": "\ufffd"}, b"x")]


def test_a_ready_head_gives_the_same_frame() -> None:
    frame = FrameReader().feed(assemble("SEND\ndestination:/queue/x\n", b"body"))[0]
    assert frame == Frame("SEND", {"destination": "/queue/x", "content-length": "4"}, b"body")
