"""What can go wrong with the store, as its callers see it."""


class StoreUnavailable(Exception):
    """Redis is away, read-only, loading or full: nothing was promised; ask again.

    Attributes:
        retry_after_s: seconds after which asking again makes sense.
    """

    def __init__(self, reason: str, retry_after_s: int = 2) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_s = reason, retry_after_s
