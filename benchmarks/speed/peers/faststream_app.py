"""`python -m benchmarks.speed.peers.faststream_app`: events in, onto Redis streams; FastStream tells Cention of them.

An agent's events go to one of so many streams, each with one subscriber that takes one message at a time: so an agent's
messages leave in order. A second subscriber a stream claims what a killed process had taken and not acknowledged; it
comes late then, and out of order. An event that is sent twice is told twice.
"""

import argparse
import asyncio
import logging

import aiohttp
import orjson
from aiohttp import web
from faststream import AckPolicy  # type: ignore[import-not-found] # in an environment of its own
from faststream.redis import RedisBroker, StreamSub  # type: ignore[import-not-found] # likewise

from benchmarks.speed.peers.document import HEADERS, document
from benchmarks.speed.pipe import answer, commands

LANES = 32
"""As many as the bridge has messages under way."""
CLAIM_AFTER_MS = 5000
GROUP = "tell"


async def main(redis_url: str, sink_url: str, port: int) -> None:
    broker = RedisBroker(redis_url, logger=None, max_connections=1000)  # with 100, it fails under load
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=LANES)) as session:

        async def tell(event: dict[str, object]) -> None:
            async with session.post(sink_url, data=document(event), headers=HEADERS) as response:
                await response.read()
                response.raise_for_status()

        for lane in range(LANES):
            for claims in (None, CLAIM_AFTER_MS):
                stream = StreamSub(
                    f"calls-{lane}", group=GROUP, consumer=f"{lane}-{claims}", min_idle_time=claims, max_records=1
                )
                broker.subscriber(stream=stream, ack_policy=AckPolicy.NACK_ON_ERROR)(tell)
        await broker.start()

        async def take(request: web.Request) -> web.Response:
            event = orjson.loads(await request.read())
            await broker.publish(event, stream=f"calls-{event['deviceId'] % LANES}")
            return web.Response(status=202)

        app = web.Application()
        app.router.add_post("/v1/events", take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        answer({"port": port})
        async for _ in commands():
            pass
        await runner.cleanup()
        await broker.stop()


if __name__ == "__main__":
    logging.disable(logging.INFO)
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", required=True)
    parser.add_argument("--sink", required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    asyncio.run(main(given.redis, given.sink, given.port))
