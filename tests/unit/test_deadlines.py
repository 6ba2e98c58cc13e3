"""Time limits that share a timer: they end as those of `asyncio.timeout` do, each by itself."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from bridge.runtime.deadlines import Deadlines

SOON, NEVER = 0.01, 1e6
Limit = Callable[[float], AbstractAsyncContextManager[object]]


@pytest.fixture(params=["ours", "asyncio"])
def limit(request: pytest.FixtureRequest) -> Limit:
    """A maker of limits: ours, and asyncio's own, which says what ours has to do."""
    if request.param == "asyncio":
        return asyncio.timeout
    deadlines = Deadlines()

    @asynccontextmanager
    async def ours(seconds: float) -> AsyncIterator[None]:
        with deadlines.within(seconds):
            yield

    return ours


async def forever() -> None:
    await asyncio.Event().wait()


def cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_what_is_over_its_limit_is_cancelled_and_goes_on_after_the_block(limit: Limit) -> None:
    cancelled = False

    async def work() -> None:
        nonlocal cancelled
        try:
            await forever()
        except asyncio.CancelledError:
            cancelled = True
            raise

    with pytest.raises(TimeoutError):
        async with limit(SOON):
            await work()
    assert cancelled
    assert cancellations() == 0


async def test_what_ends_in_time_is_left_alone(limit: Limit) -> None:
    async with limit(SOON):
        pass
    with pytest.raises(TimeoutError):  # a later limit of the same length: the first one's time is over by then
        async with limit(SOON):
            await forever()
    assert cancellations() == 0


async def test_an_error_of_the_blocks_own_passes(limit: Limit) -> None:
    with pytest.raises(LookupError):
        async with limit(NEVER):
            raise LookupError


async def test_who_is_cancelled_from_elsewhere_is_not_told_of_a_timeout(limit: Limit) -> None:
    async def work() -> None:
        async with limit(NEVER):
            await forever()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_that_comes_with_the_timeout_is_kept(limit: Limit) -> None:
    async def work() -> None:
        async with limit(SOON):
            try:
                await forever()
            except asyncio.CancelledError:
                mine.cancel()
                raise

    mine = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await mine


async def test_the_inner_of_two_limits_ends_alone(limit: Limit) -> None:
    async with limit(NEVER):
        with pytest.raises(TimeoutError):
            async with limit(SOON):
                await forever()
    assert cancellations() == 0


async def test_many_of_a_length_end_each_in_its_turn(limit: Limit) -> None:
    ended: list[int] = []

    async def work(number: int) -> None:
        try:
            async with limit(SOON):
                if number % 2:  # those that end in time stand between those that do not
                    await asyncio.sleep(0)
                else:
                    await forever()
        except TimeoutError:
            ended.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(work(number))
            await asyncio.sleep(0.002)  # so that they began at different times; nothing depends on how far apart
    assert ended == [0, 2, 4]


async def test_a_limit_outside_of_a_task_is_refused() -> None:
    deadlines, refused = Deadlines(), asyncio.get_running_loop().create_future()

    def outside() -> None:
        try:
            with deadlines.within(NEVER):
                refused.set_result(None)
        except RuntimeError as error:
            refused.set_result(error)

    asyncio.get_running_loop().call_soon(outside)
    assert isinstance(await refused, RuntimeError)
