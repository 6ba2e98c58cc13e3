"""Agents' logins and logouts: not JSON:API, but CSV or JSON. Source: Cention API, "Cention Logio"."""

import csv
import io
from typing import get_args

import orjson
from aiohttp import web

from bridge.cention.documents.logio import LOGIO, LogioFormat
from bridge.cention.sandbox.asked import Asked, Served
from bridge.cention.sandbox.checks import Refused
from bridge.cention.sandbox.logins import Login, Logins
from bridge.runtime.clock import now_ms

_DEFAULT_S = 7 * 24 * 3600
_TIME_MAX = 2**53


class ServedLogins:
    """The endpoint whose token carries the claim "Access to logio API"."""

    def __init__(self, logins: Logins) -> None:
        self._logins = logins

    def served(self) -> list[Served]:
        """What this part serves."""
        return [Served("GET", f"custom/{LOGIO}", ("logio",), self._logio, json_api=False)]

    def _logio(self, asked: Asked) -> web.Response:
        now_s = now_ms() // 1000
        form = asked.text("format") or "csv"
        if form not in get_args(LogioFormat):
            raise Refused(400, ("", "format must be csv or json"))
        last = _seconds(asked, "to", now_s)
        first = _seconds(asked, "from", now_s - _DEFAULT_S)
        found = self._logins.between(first, last, asked.text("name") or None)
        if form == "json":
            return web.Response(body=_json(found), content_type="application/json")
        return web.Response(text=_csv(found), content_type="text/csv")


def _seconds(asked: Asked, name: str, default: int) -> int:
    text = asked.text(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= _TIME_MAX):
        raise Refused(400, ("", f"{name} must be seconds since the epoch"))
    return int(text)


def _json(logins: list[Login]) -> bytes:
    rows = [
        {"id": number, "name": login.name, "timestamp": login.timestamp, "action": login.action}
        for number, login in enumerate(logins, 1)
    ]
    return orjson.dumps(rows)


def _csv(logins: list[Login]) -> str:
    """Without a row of names, LF at each line's end. Names are quoted as RFC 4180 has it, which is not documented."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows((number, one.name, one.timestamp, one.action) for number, one in enumerate(logins, 1))
    return out.getvalue()
