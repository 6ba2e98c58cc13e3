"""The sandbox's page in a browser: what it shows, that it refreshes, answers and escapes, and works by keyboard."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pytest_aiohttp import AiohttpServer

from bridge.cention.documents import IntegrationData, Message, NewErrand
from bridge.cention.outcome import Delivered
from bridge.cention.sandbox import Sandbox
from tests.integration.cention_support import cention

pytestmark = pytest.mark.ci

CHROMIUM = shutil.which("chromium")
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'


class Page:
    """A browser's page on a sandbox, and what went wrong in it."""

    def __init__(self, sandbox: Sandbox, base_url: str, page: Any) -> None:
        self.sandbox, self.base_url, self.page = sandbox, base_url, page
        self.wrong: list[str] = []
        page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))

    async def create(self, reference: str, **more: Any) -> None:
        """Creates an errand as the bridge does."""
        end, link = more.pop("end", False), more.pop("link", None)
        call = IntegrationData(
            integration_name="aventa",
            reference_id=reference,
            device_id=1000,
            extension_id=1001,
            dest_number="46846500400",
            queue_name="Rådgivning",
            queue_number="200",
            end_session=end,
            link=link,
        )
        told = {"sender": "46701740605", "name": "Åsa Öberg", "subject": "Call", **more}
        async with cention(self.base_url) as client:
            made = await client.new_errand(NewErrand(msg=Message(**told), integration_data=call), "any")
        assert isinstance(made, Delivered)

    def row(self, errand_id: int) -> Any:
        """The errand's row; waits for nothing."""
        return self.page.locator(f'tr[data-errand="{errand_id}"]')

    async def cells(self, errand_id: int) -> list[str]:
        """What the errand's row shows, once it is there."""
        row = self.row(errand_id)
        await row.wait_for()
        return [text.replace("\n", " ").strip() for text in await row.locator("td").all_inner_texts()]


@pytest.fixture
async def page(aiohttp_server: AiohttpServer) -> AsyncIterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no chromium: install Debian's package of that name")
    playwright = pytest.importorskip("playwright.async_api", reason="the package playwright is not installed")
    sandbox = Sandbox()
    server = await aiohttp_server(sandbox.app())
    # Chromium's own sandbox can't be had by root, as CI is.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=CHROMIUM, args=flags)
        shown = Page(sandbox, f"{server.make_url('/')}s/demo", await browser.new_page())
        await shown.page.goto(str(server.make_url("/")))
        yield shown
        assert shown.wrong == []
        await browser.close()


async def test_an_errand_is_shown_with_what_its_agent_would_see(page: Page) -> None:
    await page.page.get_by_text("No errand yet.").wait_for()
    await page.create("c-1", link="https://recordings.example/1")
    cells = await page.cells(511055)  # came without a reload
    assert cells[:5] == ["511055 Call", "46701740605 Åsa Öberg", "46846500400", "Rådgivning 200", "1000/1001"]
    assert cells[6:] == ["https://recordings.example/1", "open", "Answer"]
    assert await page.row(511055).get_by_role("link").get_attribute("href") == "https://recordings.example/1"
    assert not await page.page.get_by_text("No errand yet.").is_visible()


async def test_it_refreshes_itself_and_keeps_the_newest_first(page: Page) -> None:
    await page.create("c-1")
    assert (await page.cells(511055))[7] == "open"
    await page.create("c-1", end=True, link="https://recordings.example/late")
    await page.row(511055).get_by_text("ended").wait_for()
    assert (await page.cells(511055))[6] == "https://recordings.example/late"
    await page.create("c-2")
    await page.row(511056).wait_for()
    assert await page.page.locator("tbody tr").evaluate_all("rows => rows.map(row => row.dataset.errand)") == [
        "511056",
        "511055",
    ]
    page.sandbox.reset()
    await page.page.get_by_text("No errand yet.").wait_for()


async def test_an_errand_is_answered_by_keyboard_alone(page: Page) -> None:
    await page.create("c-1")
    button = page.page.get_by_role("button", name="Answer errand 511055")
    await button.wait_for()
    for _ in range(20):
        if await button.evaluate("button => button === document.activeElement"):
            break
        await page.page.keyboard.press("Tab")
    await page.page.keyboard.press("Enter")
    assert await page.page.get_by_role("dialog", name="Answer errand 511055").is_visible()
    await page.page.keyboard.press("Escape")
    assert page.sandbox.counts["open"] == 1
    assert await button.evaluate("button => button === document.activeElement"), "the focus comes back"
    await page.page.keyboard.press("Enter")
    await page.page.keyboard.type("We called back.")
    await page.page.keyboard.press("Tab")
    await page.page.keyboard.press("Tab")
    await page.page.keyboard.press("Enter")
    await page.page.get_by_text("Errand 511055 is answered. No callback is set up.").wait_for()
    cells = await page.cells(511055)
    assert cells[7:] == ["answered", "We called back. Sandbox Agent"]
    found = page.sandbox.errand(511055)
    assert found is not None
    assert found.answer is not None
    assert found.answer.text == "We called back."


async def test_what_callers_send_is_text_and_no_markup(page: Page) -> None:
    await page.create("c-1", name=HOSTILE, subject=HOSTILE, sender=HOSTILE, link="javascript:document.title=3")
    cells = await page.cells(511055)
    assert cells[1] == f"{HOSTILE} {HOSTILE}"
    assert cells[6] == "javascript:document.title=3"
    assert await page.row(511055).locator("a, img, script").count() == 0
    assert await page.page.title() == "Cention sandbox"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_can_be_read_in_light_and_dark(page: Page, scheme: str, tmp_path: Path) -> None:
    await page.page.emulate_media(color_scheme=scheme)
    await page.create("c-1")
    await page.row(511055).wait_for()
    await page.page.screenshot(path=tmp_path / f"{scheme}.png")
    for place in ("td", "td .more", "th", "caption", "td.state", "#counts", "nav a", "td button"):
        contrast = await page.page.locator(place).first.evaluate(CONTRAST)
        assert contrast >= 4.5, f"{place}: {contrast}"  # WCAG 2.2, 1.4.3


async def test_it_says_when_the_sandbox_is_away_and_when_it_is_back(page: Page) -> None:
    await page.create("c-1")
    await page.row(511055).wait_for()
    await page.page.context.set_offline(True)
    away = page.page.get_by_text("The sandbox does not answer. Trying again.")
    await away.wait_for()
    assert (await page.cells(511055))[0] == "511055 Call", "what was known stays"
    await page.page.context.set_offline(False)
    await away.wait_for(state="detached")
    page.wrong[:] = [text for text in page.wrong if "ERR_INTERNET_DISCONNECTED" not in text]


CONTRAST = """element => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = channels(colour).slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let ground = element;
  while (ground && (channels(getComputedStyle(ground).backgroundColor)[3] ?? 1) === 0) ground = ground.parentElement;
  const pair = [getComputedStyle(element).color, getComputedStyle(ground ?? document.body).backgroundColor];
  const [light, dark] = pair.map(luminance).sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}"""
"""The contrast of an element's text to what is behind it. Source: WCAG 2.2, "contrast ratio"."""
