"""The sandbox's page as it is sent: to whom, with which headers, and that it holds to the policy it comes with.

What it does in a browser, `tests/e2e/test_sandbox_page.py` looks at.
"""

import re
from collections.abc import AsyncIterator

import pytest

from bridge.cention.sandbox import Sandbox
from tests.integration.sandbox_support import Reader, serving

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    async with serving(Sandbox()) as made:
        yield made


async def sent(reader: Reader, path: str, accept: str = "*/*") -> tuple[str, dict[str, str]]:
    async with reader.session.get(reader.view_url + path, headers={"Accept": accept}) as response:
        assert response.status == 200
        return await response.text(), dict(response.headers)


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
async def test_a_program_gets_the_index(reader: Reader, accept: str) -> None:
    body, headers = await sent(reader, "/", accept)
    assert '"views"' in body
    assert headers["Content-Type"].startswith("application/json")
    assert headers["Vary"] == "Accept"


async def test_a_browser_gets_the_page_under_a_strict_policy(reader: Reader) -> None:
    body, headers = await sent(reader, "/", BROWSER)
    assert body.startswith("<!doctype html>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_the_page_holds_to_its_policy(reader: Reader) -> None:
    body, _ = await sent(reader, "/", BROWSER)
    assert re.findall(r"<script(?![^>]* src=)", body) == [], "no inline script"
    assert "<style" not in body
    assert re.findall(r"\s(?:on\w+|style)=", body) == [], "no inline handlers and styles"
    for address in re.findall(r'(?:src|href)="([^"]*)"', body):
        assert address.startswith("/"), "nothing from elsewhere"
        await sent(reader, address)
    script, headers = await sent(reader, "/page.js")
    assert headers["Content-Type"].startswith("text/javascript")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function", script)
    style, headers = await sent(reader, "/page.css")
    assert headers["Content-Type"].startswith("text/css")
    assert "prefers-color-scheme: dark" in style
    assert "http" not in style
