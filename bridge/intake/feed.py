"""Follows a feed of events that the exchange serves: a WebSocket, Server-Sent Events or an NDJSON stream.

Two loops run side by side: one reads the connection and connects again, the other hands over what was read. Between
them stand at most `AHEAD_MAX` messages: when the store is away, reading stops and the server feels it, while pings go
on being answered until then.

Invariants: messages are handed over in the order they came; one that was read is tried until it is accepted or kept
as a rejection, however long the store is away. Must not know what a valid event is, nor where events go. The token
goes to the configured host alone: redirects are failures.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, Literal, TypeVar

import aiohttp
from yarl import URL

from bridge.calls.events import CallEvent
from bridge.calls.verdicts import BODY_CHARS_MAX, Rejection
from bridge.intake import batch
from bridge.intake.batch import Accept, Outcome, Reject, Translate
from bridge.intake.streams import Item, LineSplitter, Overlong, SseParser
from bridge.runtime.clock import monotonic, now_ms
from bridge.runtime.logs import get_logger
from bridge.store.errors import StoreUnavailable

log = get_logger(__name__)

FeedKind = Literal["websocket", "sse", "ndjson"]
FeedState = Literal["connected", "connecting", "stopped"]
T = TypeVar("T")

AHEAD_MAX = 64
MESSAGE_BYTES_MAX = 1024 * 1024
ASKED_PAUSE_S_MAX = 300.0
PAUSE_S_MIN = 0.05  # below it, a server that asks for `retry: 0` and hangs up would be polled in a tight loop

# A WebSocket message is read whole, so between the limit and this it can still be rejected without losing the
# connection; beyond, the connection is the price.
_FRAME_FACTOR = 4
# Names that servers give to events which only keep the connection open.
_KEEPALIVES = frozenset([b"ping", b"heartbeat", b"keepalive", b"keep-alive"])


class _Fault(Exception):
    """The connection is of no use; `retry_after_s` is what the server asked for, in seconds."""

    def __init__(self, reason: str, retry_after_s: float = 0) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_s = reason, retry_after_s


class Feed:
    """One feed of events, read until cancelled.

    Args:
        kind: what is at `url`.
        url: `ws(s)://` or `http(s)://`.
        token: sent as `Authorization: Bearer`, to the host of `url` only.
        translate: a parsed event and its JSON text -> the event, or why not.
        accept: makes events durable, in order.
        reject: keeps rejections.
        schedule_s: pauses before connecting again, in seconds; the last one repeats. Each is drawn out by up to half.
        idle_timeout_s: seconds of silence after which an SSE or NDJSON connection counts as dead.
        heartbeat_s: seconds of silence before a WebSocket is pinged; as long again and it counts as dead.
        connect_timeout_s: seconds for name look-up, TCP and TLS.
        message_bytes_max: greatest size of one message, in bytes; longer ones are rejected.

    Attributes:
        state: `connected`, `connecting` (also while pausing), or `stopped`.
        last_event_at: when an event last came and was handed over, ms since the epoch; None before the first.

    Source: contract section 6, `feed.*`; RFC 6455; WHATWG HTML, section 9.2.
    """

    def __init__(
        self,
        *,
        kind: FeedKind,
        url: str,
        token: str | None,
        translate: Translate,
        accept: Accept,
        reject: Reject,
        schedule_s: Sequence[float] = (1, 2, 5, 10, 30),
        idle_timeout_s: float = 120,
        heartbeat_s: float = 30,
        connect_timeout_s: float = 60,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
    ) -> None:
        self._url, self._kind = URL(url), kind
        self._read = {"websocket": self._websocket, "sse": self._sse, "ndjson": self._ndjson}[kind]
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._translate, self._accept, self._reject = translate, accept, reject
        self._schedule_s = tuple(schedule_s)
        self._idle_timeout_s, self._heartbeat_s = idle_timeout_s, heartbeat_s
        self._connect_timeout_s, self._message_bytes_max = connect_timeout_s, message_bytes_max
        self._sse_parser = SseParser(message_bytes_max)
        self._queue: asyncio.Queue[bytes | Rejection] = asyncio.Queue(AHEAD_MAX)
        self._failures, self._connected_at = 0, 0.0
        self.state: FeedState = "stopped"
        self.last_event_at: int | None = None

    async def run(self) -> None:
        """Follows the feed until cancelled."""
        tracing = aiohttp.TraceConfig()
        tracing.on_request_redirect.append(_refuse_redirect)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s)
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[tracing]
                ) as session,
                asyncio.TaskGroup() as loops,
            ):
                loops.create_task(self._hand_over(), name="feed-hand-over")
                loops.create_task(self._follow(session), name="feed-follow")
        finally:
            self.state = "stopped"

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        while True:
            self.state, asked_s, self._connected_at = "connecting", 0.0, 0.0
            try:
                await self._read(session)
                reason = "ended by the server"
            except _Fault as fault:
                reason, asked_s = fault.reason, fault.retry_after_s
            except aiohttp.WSServerHandshakeError as error:
                reason = f"status {error.status}"
                asked_s = _retry_after_s(error.headers.get("Retry-After", "") if error.headers else "")
            except (aiohttp.ClientError, OSError, ValueError) as error:
                # The text of some of these holds the URL with its query, and that may hold a secret.
                reason = getattr(error, "strerror", None) or type(error).__name__
            except Exception:
                log.exception("feed reader failed", kind=self._kind)
                reason = "failed"
            self.state = "connecting"
            if self._connected_at and monotonic() - self._connected_at > max(self._schedule_s):
                self._failures = 0
            pause_s = self._pause_s(asked_s)
            self._failures += 1
            log.warning("feed lost", kind=self._kind, host=self._url.host, reason=reason, pause_s=round(pause_s, 1))
            await asyncio.sleep(pause_s)

    def _pause_s(self, asked_s: float) -> float:
        step_s = self._schedule_s[min(self._failures, len(self._schedule_s) - 1)]
        if (retry_ms := self._sse_parser.retry_ms) is not None:
            # What the server asks for replaces the first step, and is a lower bound of the later ones.
            step_s = retry_ms / 1000 if self._failures == 0 else max(step_s, retry_ms / 1000)
        step_s = max(step_s, asked_s, PAUSE_S_MIN)
        # Jitter only lengthens: a server's wish is a least time.
        return min(step_s, max(ASKED_PAUSE_S_MAX, *self._schedule_s)) * (1 + random.random() / 2)  # noqa: S311 - no secret

    def _connected(self) -> None:
        self.state, self._connected_at = "connected", monotonic()
        log.info("feed connected", kind=self._kind, host=self._url.host)

    async def _put(self, item: Item | Rejection) -> None:
        self._failures = 0
        if isinstance(item, Overlong):
            detail = f"The message is longer than {self._message_bytes_max} bytes."
            item = Rejection(None, "message_too_large", detail, (), batch.text_of(item.excerpt) or None)
        await self._queue.put(item)

    async def _websocket(self, session: aiohttp.ClientSession) -> None:
        connecting = session.ws_connect(
            self._url,
            headers=self._headers,
            # aiohttp's own heartbeat and pongs are not used: the heartbeat gives up a connection that is merely not
            # being read (the store away), and throws away what that connection had already brought.
            heartbeat=None,
            autoping=False,
            max_msg_size=self._message_bytes_max * _FRAME_FACTOR,
            timeout=aiohttp.ClientWSTimeout(ws_close=2),
        )
        async with await self._within(connecting, "no answer to the handshake") as socket:
            self._connected()
            pinged = False
            while True:
                try:
                    message = await socket.receive(timeout=self._heartbeat_s)
                except TimeoutError:
                    if pinged:
                        raise _Fault("no answer to a ping") from None
                    pinged = True
                    await socket.ping()
                    continue
                pinged = False
                if message.type is aiohttp.WSMsgType.TEXT:
                    await self._put(self._bounded(message.data.encode()))
                elif message.type is aiohttp.WSMsgType.BINARY:
                    await self._put(self._bounded(message.data))
                elif message.type is aiohttp.WSMsgType.PING:
                    await socket.pong(message.data)
                elif message.type is aiohttp.WSMsgType.ERROR:
                    await self._websocket_broke(message.data)
                elif message.type is not aiohttp.WSMsgType.PONG:
                    return

    async def _websocket_broke(self, error: object) -> None:
        """The protocol has closed the connection because of a message that cannot be read; it is kept as rejected."""
        code = getattr(error, "code", None)
        if code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
            await self._put(Overlong(b""))
        elif code == aiohttp.WSCloseCode.INVALID_TEXT:
            await self._put(Rejection(None, batch.UNREADABLE, "A text message was not UTF-8."))
        raise _Fault(f"protocol error {code}")

    async def _sse(self, session: aiohttp.ClientSession) -> None:
        parser = self._sse_parser
        parser.connected()
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if parser.last_event_id:
            headers["Last-Event-ID"] = parser.last_event_id
        async with await self._get(session, headers) as response:
            if response.content_type != "text/event-stream":
                raise _Fault(f"content type {response.content_type}, not text/event-stream")
            self._connected()
            while chunk := await self._within(response.content.readany(), "idle"):
                for name, data in parser.feed(chunk):
                    if name not in _KEEPALIVES:
                        await self._put(data)

    async def _ndjson(self, session: aiohttp.ClientSession) -> None:
        lines = LineSplitter(self._message_bytes_max, universal=False)
        async with await self._get(session, {"Accept": "application/x-ndjson"}) as response:
            if response.content_type == "text/html":
                # A login or error page: its lines would only fill the rejections.
                raise _Fault("content type text/html")
            self._connected()
            while chunk := await self._within(response.content.readany(), "idle"):
                for line in lines.feed(chunk):
                    await self._put_line(line)
            if (rest := lines.rest()) is not None:
                await self._put_line(rest)

    async def _put_line(self, line: Item) -> None:
        # Blank lines keep the connection open.
        if isinstance(line, Overlong) or line.strip():
            await self._put(line)

    async def _get(self, session: aiohttp.ClientSession, headers: dict[str, str]) -> aiohttp.ClientResponse:
        # Compressed, events could wait in the compressor for those that follow.
        asked = {"Accept-Encoding": "identity", **headers, **self._headers}
        response = await self._within(session.get(self._url, headers=asked), "no answer")
        if response.status != 200:
            response.close()
            raise _Fault(f"status {response.status}", _retry_after_s(response.headers.get("Retry-After", "")))
        return response

    async def _within(self, work: Awaitable[T], fault: str) -> T:
        """`work`'s result, or a fault after the idle time: measured only while waiting for the server."""
        try:
            async with asyncio.timeout(self._idle_timeout_s):
                return await work
        except TimeoutError:
            raise _Fault(fault) from None

    def _bounded(self, data: bytes) -> Item:
        return data if len(data) <= self._message_bytes_max else Overlong(data[:BODY_CHARS_MAX])

    async def _hand_over(self) -> None:
        while True:
            items = [await self._queue.get()]
            while not self._queue.empty():
                items.append(self._queue.get_nowait())
            outcomes = [outcome for item in items for outcome in await self._outcomes(item)]
            await self._accepted([outcome for outcome in outcomes if isinstance(outcome, CallEvent)])
            rejections = [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
            if rejections:
                await self._insist(self._reject, rejections)
            self.last_event_at = now_ms()

    async def _outcomes(self, item: bytes | Rejection) -> list[Outcome]:
        if isinstance(item, Rejection):
            return [item]
        try:
            value = batch.parse(item)
            if isinstance(value, list):
                return await batch.elements(value, self._translate)
            return [batch.one(value, item, self._translate)]
        except batch.Unreadable as error:
            return [batch.unreadable(f"The message is not JSON: {error.detail}.", item)]
        except Exception:
            log.exception("event not translated", kind=self._kind)
            return [batch.our_fault(None, batch.text_of(item))]

    async def _accepted(self, events: Sequence[CallEvent]) -> None:
        if not events or await self._insist(self._accept, events):
            return
        # Not the store: one of the events meets a fault of ours. It must cost only itself, and leave a trace.
        await asyncio.sleep(self._schedule_s[0])
        for event in events:
            if not await self._insist(self._accept, [event]):
                await self._insist(self._reject, [batch.our_fault(event.event_id, event.body)])

    async def _insist(self, work: Callable[[Sequence[Any]], Awaitable[object]], items: Sequence[Any]) -> bool:
        """Does `work`, waiting for the store as long as it takes. False: it failed for another reason."""
        told = False
        while True:
            try:
                await work(items)
            except StoreUnavailable as error:
                if not told:
                    log.warning("store unavailable, feed waits", kind=self._kind, reason=error.reason)
                told = True
                await asyncio.sleep(error.retry_after_s)
            except Exception:
                log.exception("feed hand-over failed", kind=self._kind, count=len(items))
                return False
            else:
                return True


def _retry_after_s(value: str) -> float:
    """Seconds of a `Retry-After`; a date is not worth a parser here, since the schedule goes on anyway."""
    return float(value[:6]) if value.isascii() and value.isdigit() else 0


async def _refuse_redirect(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> None:
    """Refuses every redirect. `allow_redirects` would do for `get`, but `ws_connect` has no such setting."""
    params.response.close()
    raise _Fault(f"redirect (status {params.response.status})")
