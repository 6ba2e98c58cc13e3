"""The core: what an event does to a call. Pure: no IO, no clock, no asyncio, nothing of ours but this package."""
