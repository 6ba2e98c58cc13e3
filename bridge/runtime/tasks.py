"""The only owner of background tasks: each has an owner that waits for it, and a failure is never lost."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from bridge.runtime.logs import get_logger

log = get_logger(__name__)


class Tasks:
    """A set of running tasks that outlive the call that started them, and that somebody drains.

    `asyncio.TaskGroup` ends all its members when one fails; a delivery that fails must not end the others, so
    failures here are logged and counted by the caller's own means, and the set goes on.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Starts `work` and keeps it until it ends."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed", group=self._name, task=task.get_name(), exc_info=error)

    async def drain(self, timeout_s: float) -> int:
        """Waits up to `timeout_s` seconds for all to end, then cancels the rest. Returns how many were cancelled."""
        if not self._tasks:
            return 0
        _, late = await asyncio.wait(set(self._tasks), timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        return len(late)
