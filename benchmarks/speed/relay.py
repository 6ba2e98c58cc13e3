"""`python -m benchmarks.speed.relay`: the floor. POST in, one XADD, 202, POST out; and nothing else.

No validation, no duplicates found, no order kept, and what could not be delivered is lost: the stream is written and
never read. The 202 follows the write; the POST out is a task, and at most `--in-flight` of them are under way, as with
`delivery.concurrency`: while all are taken, the next 202 waits.
"""

import argparse
import asyncio

import aiohttp
import redis.asyncio as redis
from aiohttp import web

from benchmarks.speed.pipe import answer, commands, quick_loop

POOL_MAX = 1000
"""redis-py's default pool but for this: with 100, it raises where more than 100 requests come at a time."""


async def main(port: int, redis_url: str, sink_url: str, in_flight: int) -> None:
    places = asyncio.Semaphore(in_flight)
    tasks: set[asyncio.Task[None]] = set()
    async with (
        redis.from_url(redis_url, max_connections=POOL_MAX) as store,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session,
    ):

        async def send(body: bytes) -> None:
            try:
                async with session.post(sink_url, data=body, headers={"Content-Type": "application/json"}) as response:
                    await response.read()
            finally:
                places.release()

        async def take(request: web.Request) -> web.Response:
            body = await request.read()
            await store.xadd("events", {"event": body})
            await places.acquire()
            task = asyncio.create_task(send(body))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            return web.Response(status=202)

        app = web.Application()
        app.router.add_post("/v1/events", take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        answer({"port": runner.addresses[0][1]})
        async for _ in commands():
            pass
        await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", required=True)
    parser.add_argument("--sink", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--uvloop", action="store_true")
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=quick_loop() if given.uvloop else None) as runner:
        runner.run(main(given.port, given.redis, given.sink, given.in_flight))
