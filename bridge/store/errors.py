"""What can go wrong with the store, as its callers see it."""

import re

from redis import exceptions as redis


class StoreUnavailable(Exception):
    """Redis is away, read-only, loading or full: nothing was promised; ask again.

    Attributes:
        retry_after_s: seconds after which asking again makes sense.
    """

    def __init__(self, reason: str, retry_after_s: int = 2) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_s = reason, retry_after_s


class StoreRefused(StoreUnavailable):
    """It was refused in words that are not known of Redis: most likely by a proxy before it.

    That may pass, or be about what was asked alone. Whether Redis did that is not known.
    """


# The client takes the code off some errors and leaves it on others; and what a script meets comes inside the script's
# own error, in words that differ by the server's version.
_PASSING = (
    redis.AskError,
    redis.ClusterDownError,
    redis.NoPermissionError,
    redis.NoScriptError,  # forgotten again as soon as it was loaded
    redis.OutOfMemoryError,
    redis.ReadOnlyError,
    redis.TryAgainError,
)
_PASSING_WORDS = re.compile(
    r"\b(READONLY|LOADING|OOM|MISCONF|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|BUSY|TRYAGAIN|NOPERM|NOAUTH|WRONGPASS)\b"
    r"|attempted to access a non local key|user executing the script can't run"
)
_OURS_WORDS = re.compile(
    r"\bWRONGTYPE\b|user_script|\b(unknown (sub)?command|wrong number of arguments|syntax error|not an integer"
    r"|not a valid float|invalid expire time)\b",
    re.IGNORECASE,
)
_MISPLACED = (redis.ReadOnlyError, redis.ClusterDownError, redis.ClusterCrossSlotError)
_MISPLACED_WORDS = re.compile(r"\b(READONLY|MASTERDOWN|CLUSTERDOWN)\b")


def is_away(error: BaseException) -> bool:
    """Whether the server gave no answer: refused, reset, closed, silent for too long, or not one that lets us in."""
    return isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError)


def is_misplaced(error: BaseException) -> bool:
    """Whether the server says that it is not the one to write to, or another than we took it for."""
    return isinstance(error, _MISPLACED) or (
        isinstance(error, redis.RedisError) and _MISPLACED_WORDS.search(str(error)) is not None
    )


def as_unavailable(error: BaseException) -> BaseException:
    """What the caller sees: `StoreUnavailable` for whatever may pass, the error itself for what is surely ours.

    A right that is missing may pass too: an operator can give it while we run.
    """
    if is_away(error):
        return StoreUnavailable(f"{type(error).__name__}: {error}")
    if isinstance(error, redis.RedisError) and (isinstance(error, _PASSING) or _PASSING_WORDS.search(str(error))):
        return StoreUnavailable(f"{type(error).__name__}: {error}")
    if isinstance(error, redis.ResponseError) and not _is_ours(error):
        return StoreRefused(f"{type(error).__name__}: {error}")
    return error


def _is_ours(error: redis.ResponseError) -> bool:
    """Whether asking again is surely in vain: a command, a script or a key of ours is wrong."""
    return _OURS_WORDS.search(str(error)) is not None
