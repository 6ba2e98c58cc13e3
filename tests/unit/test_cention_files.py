"""Files that Cention keeps: their contents, within bounds, and their names where they become paths."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cention.documents import FILE_BYTES_MAX, StoredFile, UnusableContent, answer_bytes_max, safe_name


def packed(file: bytes) -> str:
    return base64.b64encode(file).decode()


@given(st.binary(max_size=200))
def test_content_is_decoded_and_its_size_known_before(file: bytes) -> None:
    stored = StoredFile(content=packed(file))
    assert stored.decoded(200) == file
    assert stored.size == len(file)


@given(st.binary(min_size=1, max_size=200), st.sampled_from(["\n", "\r\n", " ", "\t"]), st.integers(1, 80))
def test_broken_lines_change_nothing(file: bytes, end: str, length: int) -> None:
    text = packed(file)
    lines = end.join(text[i : i + length] for i in range(0, len(text), length)) + end
    stored = StoredFile(content=lines)
    assert stored.decoded(len(file)) == file
    assert len(lines) <= answer_bytes_max(len(file))


def test_a_file_beyond_the_bound_is_refused() -> None:
    stored = StoredFile(content=packed(b"x" * 101))
    assert stored.decoded(101) == b"x" * 101
    with pytest.raises(UnusableContent, match="larger than 100 bytes"):
        stored.decoded(100)


@pytest.mark.parametrize("content", ["QXBw*", "QXBwb", "=", "QXBw====QXBw", "Ä", "-_-_", "\0\0\0\0"])
def test_what_is_no_base64_is_refused_without_being_repeated(content: str) -> None:
    with pytest.raises(UnusableContent) as caught:
        StoredFile(content=content).decoded()
    assert content not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_empty_file_is_a_file_and_no_content_is_none() -> None:
    assert StoredFile(content="").decoded() == b""
    assert (StoredFile().decoded(), StoredFile().size) == (None, None)


def test_the_bound_of_an_answer_leaves_room_for_escaped_slashes_and_broken_lines() -> None:
    slashes = packed(b"\xff" * FILE_BYTES_MAX)  # nothing but slashes, the worst there is
    lines = len(slashes) * 80 // 76  # each of 76 characters, and the four of an escaped line break
    assert lines < answer_bytes_max(FILE_BYTES_MAX)
    usual = len(slashes) * 65 // 64  # one character in 64 is a slash
    assert usual * 80 // 76 < answer_bytes_max(FILE_BYTES_MAX)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("tst1_1.txt", "tst1_1.txt"),
        ("Åsas räkning (2).pdf", "Åsas räkning (2).pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\win.ini", "win.ini"),
        ("/etc/cron.d/", "attachment"),
        ("..", "attachment"),
        (".", "attachment"),
        ("", "attachment"),
        (None, "attachment"),
        ("___", "attachment"),
        (".bashrc", "bashrc"),
        ("-rf", "rf"),
        ("a\0b.txt", "a_b.txt"),
        ("a\nb.txt", "a_b.txt"),
        ("faktura\u202efdp.exe", "faktura_fdp.exe"),
        ("\uff0e\uff0e\uff0fx", "x"),
        ("con.txt", "_con.txt"),
        ("COM1", "_COM1"),
        ("console.txt", "console.txt"),
        ("a.txt. . ", "a.txt"),
        ("a  b.txt", "a b.txt"),
        ("$(rm -r ~);`x`.sh", "_(rm -r _)__x_.sh"),
        ("a:b|c<d>e?f*g\"h'.txt", "a_b_c_d_e_f_g_h_.txt"),
        ("x" * 300 + ".pdf", "x" * 195 + ".pdf"),
        ("å" * 300 + ".pdf", "å" * 97 + ".pdf"),
        ("report." + "x" * 300, "report." + "x" * 192),
        ("\ud800.txt", "_.txt"),
    ],
)
def test_a_name_becomes_a_safe_one(name: str | None, safe: str) -> None:
    assert safe_name(name) == safe


@given(
    st.text(max_size=400) | st.text(alphabet="./\\ -_con\0~\u202e", max_size=30), st.sampled_from([".pdf", "", ". "])
)
def test_any_name_becomes_one_safe_component(text: str, end: str) -> None:
    safe = safe_name(text + end)
    assert 1 <= len(safe.encode()) <= 200
    assert safe.isprintable()
    assert not set(safe) & set("/\\:*?\"<>|\0~$`'")
    assert safe not in (".", "..")
    assert safe[0] not in " .-"
    assert safe[-1] not in " ."
    assert safe.split(".")[0].lower() not in ("con", "nul", "aux", "prn", "com1", "lpt9")
    assert safe_name(text + end) == safe
    assert safe_name(safe) == safe
