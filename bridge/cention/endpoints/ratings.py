"""Ratings of a Facebook page, and the list of those that have changed."""

from bridge.cention.documents import (
    DIRTY_FACEBOOK_RATINGS,
    FACEBOOK_RATINGS,
    DirtyFacebookRating,
    FacebookRating,
)
from bridge.cention.endpoints.base import Endpoint
from bridge.cention.outcome import Failure, Fetched


class Ratings(Endpoint):
    """The Facebook endpoints, whose token carries the claim "Access to errand data"."""

    async def facebook_rating(self, rating_id: int | str, token: str) -> Fetched[FacebookRating] | Failure:
        """GET `c3_facebook_ratings/<id>`. Not without a trace: it clears the rating's dirty flag.

        Nothing is documented that sets the flag again.

        Args:
            rating_id: the rating's database id, as `dirty_facebook_ratings` tells it.
            token: one with the claim "Access to errand data".

        Source: Cention API, "Facebook Rating".
        """
        read = await self._read(self._url(FACEBOOK_RATINGS, rating_id), token, FacebookRating)
        if isinstance(read, Fetched):
            return Fetched(read.value or FacebookRating(), read.status)
        return read

    async def dirty_facebook_ratings(self, token: str) -> Fetched[tuple[str, ...]] | Failure:
        """GET `c3_dirty_facebook_ratings`: the ids of the ratings that have changed, in the server's order.

        Source: Cention API, "Dirty Facebook Rating List".
        """
        read = await self._many(self._url(DIRTY_FACEBOOK_RATINGS), token, DirtyFacebookRating)
        if isinstance(read, Fetched):
            return Fetched(tuple(str(rating.id) for rating in read.value if rating.id is not None), read.status)
        return read
