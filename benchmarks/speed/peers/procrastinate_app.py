"""`python -m benchmarks.speed.peers.procrastinate_app`: events in, each a job in PostgreSQL; a worker tells Cention.

A job holds its agent's lock, so that an agent's messages leave in order; it is retried until it succeeds. Jobs that a
killed process had begun are found by its missing heartbeat and begun again. An event that is sent twice is told twice.
"""

import argparse
import asyncio
import logging

import aiohttp
import orjson
from aiohttp import web
from procrastinate import App, PsycopgConnector, RetryStrategy  # type: ignore[import-not-found] # in an environment of its own

from benchmarks.speed.peers.document import HEADERS, document
from benchmarks.speed.pipe import answer, commands

CONCURRENCY = 32
"""As many as the bridge has messages under way."""
HEARTBEAT_S = 1.0
STALLED_S = 5.0


async def main(database: str, sink_url: str, port: int) -> None:
    app = App(connector=PsycopgConnector(conninfo=database, min_size=4, max_size=CONCURRENCY + 8))
    async with (
        app.open_async(),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session,
        asyncio.TaskGroup() as group,
    ):
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()

        async def tell(event: dict[str, object]) -> None:
            async with session.post(sink_url, data=document(event), headers=HEADERS) as response:
                await response.read()
                response.raise_for_status()

        task = app.task(name="tell", retry=RetryStrategy(exponential_wait=2))(tell)

        async def take(request: web.Request) -> web.Response:
            event = orjson.loads(await request.read())
            await task.configure(lock=f"{event['deviceId']}:{event['extensionId']}").defer_async(event=event)
            return web.Response(status=202)

        async def begin_stalled_again() -> None:
            while True:
                for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_S):
                    await app.job_manager.retry_job(job)
                await asyncio.sleep(HEARTBEAT_S)

        working = group.create_task(
            app.run_worker_async(
                concurrency=CONCURRENCY,
                install_signal_handlers=False,
                update_heartbeat_interval=HEARTBEAT_S,
                stalled_worker_timeout=STALLED_S,
            )
        )
        looking = group.create_task(begin_stalled_again())
        server = web.Application()
        server.router.add_post("/v1/events", take)
        runner = web.AppRunner(server, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        answer({"port": port})
        async for _ in commands():
            pass
        await runner.cleanup()
        for each in (working, looking):
            each.cancel()


if __name__ == "__main__":
    logging.disable(logging.INFO)
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", required=True)
    parser.add_argument("--sink", required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    asyncio.run(main(given.database, given.sink, given.port))
