"""The fault proxy does what its faults say: or no scenario would prove anything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from benchmarks.faults.proxy import Fault, FaultProxy, Kind
from tests.e2e.support import eventually


@dataclass
class Echo:
    """A server that answers each line with `re: ` and the line, and keeps what it was asked."""

    asked: list[str] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.asked.append(line.decode().strip())
            writer.write(b"re: " + line)
        writer.close()


@asynccontextmanager
async def between() -> AsyncIterator[tuple[Echo, FaultProxy]]:
    echo = Echo()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = FaultProxy(server.sockets[0].getsockname()[1], seed=1)
    await proxy.start()
    try:
        async with server:
            yield echo, proxy
            await proxy.close()
    finally:
        await proxy.close()


class Client:
    """One connection through the proxy."""

    def __init__(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self._reader, self._writer = streams

    async def ask(self, text: str) -> bytes:
        """Sends a line; what came back before the next line, the end, or a reset."""
        self._writer.write(text.encode() + b"\n")
        try:
            return await self._reader.readline()
        except ConnectionResetError:
            return b"reset"

    def leave(self) -> None:
        self._writer.close()


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator[Client]:
    client = Client(await asyncio.open_connection("127.0.0.1", proxy.port))
    try:
        yield client
    finally:
        client.leave()


def cuts(proxy: FaultProxy) -> list[bytes]:
    return [cut.asked for cut in proxy.cuts]


async def test_without_a_fault_everything_goes_through() -> None:
    async with between() as (echo, proxy), connected(proxy) as client:
        assert [await client.ask(text) for text in ("one", "two")] == [b"re: one\n", b"re: two\n"]
        assert (echo.asked, cuts(proxy), proxy.hits) == (["one", "two"], [], 0)


async def test_refuse_resets_what_is_open_and_keeps_its_port() -> None:
    async with between() as (echo, proxy), connected(proxy) as client:
        assert await client.ask("one") == b"re: one\n"
        port = proxy.port
        await proxy.fail(Fault(Kind.REFUSE))
        assert await client.ask("two") in (b"reset", b"")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await proxy.heal()
        assert proxy.port == port
        async with connected(proxy) as again:
            assert await again.ask("three") == b"re: three\n"
        assert echo.asked == ["one", "three"]


async def test_reset_before_passes_nothing_on_and_cuts_no_answer_off() -> None:
    async with between() as (echo, proxy), connected(proxy) as client:
        await proxy.fail(Fault(Kind.RESET_BEFORE))
        assert await client.ask("one") in (b"reset", b"")
        assert (echo.asked, cuts(proxy), proxy.hits) == ([], [], 1)


@pytest.mark.parametrize("kind", [Kind.RESET_AFTER, Kind.CUT_MIDWAY])
async def test_a_cut_answer_is_noted_with_what_was_asked(kind: Kind) -> None:
    async with between() as (echo, proxy), connected(proxy) as client:
        await proxy.fail(Fault(kind))
        answer = await client.ask("one")
        assert answer == b"reset" or (answer != b"re: one\n" and b"re: one\n".startswith(answer))
        assert echo.asked == ["one"]
        await eventually(lambda: cuts(proxy) == [b"one\n"], "the cut is noted")


async def test_a_black_hole_swallows_and_is_reset_when_it_ends() -> None:
    async with between() as (echo, proxy), connected(proxy) as client:
        await proxy.fail(Fault(Kind.BLACK_HOLE))
        asking = asyncio.create_task(client.ask("one"))
        await eventually(lambda: proxy.hits == 1, "it was swallowed")
        assert not asking.done()
        await proxy.heal()
        assert await asking in (b"reset", b"")
        assert echo.asked == []
        assert cuts(proxy) == [b"one\n"]


async def test_what_is_held_up_comes_through_even_when_its_sender_has_given_up() -> None:
    async with between() as (echo, proxy), connected(proxy) as patient, connected(proxy) as hasty:
        await proxy.fail(Fault(Kind.HOLD))
        waiting = asyncio.create_task(patient.ask("one"))
        leaving = asyncio.create_task(hasty.ask("two"))
        await eventually(lambda: proxy.hits == 2, "both are held")
        leaving.cancel()
        hasty.leave()
        assert echo.asked == []
        await proxy.heal()
        assert await waiting == b"re: one\n"
        await eventually(lambda: sorted(echo.asked) == ["one", "two"], "what was given up arrives all the same")
        await eventually(lambda: cuts(proxy) == [b"two\n"], "and its answer got through to nobody")


@pytest.mark.parametrize("kind", [Kind.DRIP, Kind.DELAY])
async def test_slow_answers_come_whole(kind: Kind) -> None:
    async with between() as (echo, proxy), connected(proxy) as client:
        await proxy.fail(Fault(kind, delay_s=0.01))
        began = asyncio.get_running_loop().time()
        assert await client.ask("one") == b"re: one\n"
        assert asyncio.get_running_loop().time() - began >= 0.01
        assert (echo.asked, cuts(proxy)) == (["one"], [])


async def test_a_client_that_leaves_during_a_slow_answer_was_cut_off() -> None:
    async with between() as (echo, proxy), connected(proxy) as client:
        await proxy.fail(Fault(Kind.DRIP, delay_s=3600))
        asking = asyncio.create_task(client.ask("one"))
        await eventually(lambda: echo.asked == ["one"], "the work is done")
        asking.cancel()
        client.leave()
        await eventually(lambda: cuts(proxy) == [b"one\n"], "the cut is noted")


async def test_probability_is_of_exchanges() -> None:
    async with between() as (_, proxy):
        await proxy.fail(Fault(Kind.RESET_AFTER, probability=0.5))
        answers = []
        for number in range(60):
            async with connected(proxy) as client:
                answers.append(await client.ask(str(number)) == f"re: {number}\n".encode())
        assert 10 < sum(answers) < 50
        assert len(proxy.cuts) == 60 - sum(answers)
