"""The page at the sandbox's `/`: its errands as an agent would see them, for people. Static files; the views feed it.

Invariant: everything comes from the sandbox itself, and nothing of it is inline, so the strictest Content-Security-
Policy holds and the page works without a network. What errands say is put in as text, never as HTML.
"""

from pathlib import Path

from aiohttp import hdrs, web

from bridge.runtime.web import Handler

_HERE = Path(__file__).parent
_FILES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "page.svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Vary": "Accept",
}


class Page:
    """The handlers.

    Args:
        index: answers whoever asks for no page.
    """

    def __init__(self, index: Handler) -> None:
        self._index = index

    def add_to(self, app: web.Application) -> None:
        """Routes them."""
        app.router.add_get("/", self._page)
        for name in _FILES:
            app.router.add_get(f"/{name}", self._file)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        # A browser names text/html; curl and the like take anything, and get JSON.
        if "text/html" not in ",".join(request.headers.getall(hdrs.ACCEPT, [])):
            response = await self._index(request)
            response.headers[hdrs.VARY] = hdrs.ACCEPT
            return response
        return _sent("page.html", "text/html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.path.removeprefix("/")
        return _sent(name, _FILES[name])


def _sent(name: str, content_type: str) -> web.Response:
    return web.Response(body=(_HERE / name).read_bytes(), content_type=content_type, charset="utf-8", headers=_HEADERS)
