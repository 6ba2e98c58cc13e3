"""The server's words in one line for logs and timelines, with everything that we had sent taken out again.

A server that refuses a document likes to quote it, and a document is a person's name and number. Pure.

Invariant: no line from here holds the token, a run of `ECHO_CHARS` characters of any text that was sent, a number of
five digits or more that was sent, or a word of a person's name. Ids that identify no person (`INNOCENT`) may stay.
"""

import html
import os
import re
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from bridge.runtime.logs import scrub

REASON_CHARS_MAX = 300
ECHO_CHARS = 8
"""So many characters in a row that also stand in what was sent are taken for an echo."""
INNOCENT = frozenset(["deviceId", "extensionId", "errand_id", "integrationName", "user_type"])

_NAMES = frozenset(["name", "from", "cuid"])  # members whose single words tell who somebody is
_HELD_CHARS_MAX = 20_000  # of one text that was sent: an attachment need not be searched to its end
_ERRORS_MAX = 3
_TITLE = re.compile(r"<title[^>]*>(.{0,1000}?)</title>", re.IGNORECASE | re.DOTALL)
_DIGITS = re.compile(r"\d{5,}")


def one_line(text: str) -> str:
    """`text` without control characters, and with every run of white space as one space."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def reason_of(text: str, sent: bytes, token: str) -> str:
    """`text` fit to be an outcome's reason: one line, at most 300 characters, nothing of what was sent.

    Args:
        text: the server's or a library's words.
        sent: the body of the request, JSON.
        token: the bearer token of the request.
    """
    # Ends are cut last: a value that is cut in half would no longer be recognised.
    line = scrub(_without(one_line(text)[: 4 * REASON_CHARS_MAX], sent, token))
    return line if len(line) <= REASON_CHARS_MAX else line[: REASON_CHARS_MAX - 1] + "…"


def trouble_of(error: Exception) -> str:
    """What went wrong with a connection, in words for people. May hold what an exception's text holds.

    The system's word for it: the texts of aiohttp and asyncio say what was tried, and hide why it failed. Nothing of
    an answer: where aiohttp cannot read one, its text quotes it, cookies included, and calls it a status of 400.
    """
    if isinstance(error, aiohttp.ClientResponseError):
        return f"the answer cannot be read as HTTP: {error.message.partition(':')[0]}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "Server disconnected"
    at = f" ({error.host}:{error.port})" if isinstance(error, aiohttp.ClientConnectorError) else ""
    # TLS has numbers of its own, and so has a name that can't be resolved: negative ones.
    if isinstance(error, OSError) and not isinstance(error, (ssl.SSLError, aiohttp.ClientSSLError)):
        if error.errno and error.errno > 0:
            return os.strerror(error.errno) + at
        if error.strerror:
            return error.strerror + at
    return str(error) or type(error).__name__


def server_words(status: int, content_type: str, body: bytes) -> str:
    """What the answer says of itself, raw: an errors document's texts, a page's title, or the status in words.

    Source: JSON:API 1.0, "Error Objects"; `status` is sometimes text there, so nothing in it is relied on.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body[:4096].decode("utf-8", "replace")
        if (title := _TITLE.search(text)) is not None:
            return html.unescape(title[1])
        if content_type.startswith("text/plain") and text.strip():
            return text
        return _phrase(status)
    # Any other JSON is not quoted: it may be the request, sent back.
    errors = document.get("errors") if isinstance(document, dict) else None
    said = [words for error in errors[:_ERRORS_MAX] if (words := _error(error))] if isinstance(errors, list) else []
    return "; ".join(said) or _phrase(status)


def has_errors(body: bytes) -> bool:
    """Whether `body` is an errors document that carries no data."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and bool(document.get("errors")) and not document.get("data")


def _error(error: Any) -> str:
    if not isinstance(error, dict):
        return ""
    texts = [text for key in ("title", "detail") if isinstance(text := error.get(key), str) and text.strip()]
    if not texts and isinstance(text := error.get("status"), str):
        texts = [text]
    source = error.get("source")
    if texts and isinstance(source, dict) and isinstance(at := source.get("pointer"), str) and at.strip():
        texts.insert(len(texts) - 1, at.removeprefix("/data/attributes/"))  # before what is wrong there
    return ": ".join(dict.fromkeys(texts))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def _without(line: str, sent: bytes, token: str) -> str:
    values = [(name, one_line(value)[:_HELD_CHARS_MAX]) for name, value in _values(sent)] + [("token", token)]
    grams = {v[i : i + ECHO_CHARS].casefold() for _, v in values for i in range(len(v) - ECHO_CHARS + 1)}
    hidden = [False] * len(line)
    for start in range(len(line) - ECHO_CHARS + 1):
        if line[start : start + ECHO_CHARS].casefold() in grams:
            hidden[start : start + ECHO_CHARS] = [True] * ECHO_CHARS
    for pattern in _short(values):
        for found in re.finditer(pattern, line, re.IGNORECASE):
            hidden[found.start() : found.end()] = [True] * len(found[0])
    shown = "".join("\0" if hide else char for hide, char in zip(hidden, line, strict=True))
    return re.sub("\0+", "***", shown)


def _short(values: list[tuple[str, str]]) -> Iterator[str]:
    """Patterns for what is too short to be found as a run of `ECHO_CHARS`."""
    for name, value in values:
        yield from _DIGITS.findall(value)
        # The words of a subject or a body are anybody's: hiding each would leave nothing of what the server says.
        for text in re.split(r"\W+", value) if name in _NAMES else [value]:
            if 3 <= len(text) < ECHO_CHARS:
                yield rf"(?<!\w){re.escape(text)}(?!\w)"


def _values(sent: bytes) -> Iterator[tuple[str, str]]:
    """Every text and every long number in the attributes of the document that was sent, with its member's name."""
    try:
        waiting: list[tuple[str, Any]] = [("", orjson.loads(sent)["data"]["attributes"])]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return
    while waiting:
        name, value = waiting.pop()
        if name in INNOCENT:
            continue
        match value:
            case dict():
                waiting.extend(value.items())
            case list():
                waiting.extend((name, item) for item in value)
            case str():
                yield name, value
            case int() | float() if not isinstance(value, bool) and abs(value) >= 10_000:
                yield name, str(value)
