"""Ratings that visitors leave on a Facebook page, and the list of those that have changed.

Source: Cention API, "Facebook Rating", "Dirty Facebook Rating List".
"""

from pydantic import Field

from bridge.cention.documents.base import Document, JsonInteger
from bridge.cention.documents.jsonapi import Linked

FACEBOOK_RATINGS = "c3_facebook_ratings"
"""Endpoint and resource type. Source: Cention API, "Facebook Rating"."""
DIRTY_FACEBOOK_RATINGS = "c3_dirty_facebook_ratings"
"""Endpoint and resource type. Source: Cention API, "Dirty Facebook Rating List"."""


class FacebookRatingData(Document):
    """What somebody said of the page.

    Source: Cention API, "Facebook Rating", the sample's `data`.
    """

    is_changed: bool | None = Field(default=None, alias="isChanged")
    message: str | None = None
    rating: JsonInteger | None = None
    """Stars, 1 to 5."""
    rating_id: JsonInteger | None = Field(default=None, alias="ratingId")
    reviewer_id: JsonInteger | None = Field(default=None, alias="reviewerId")
    """Facebook's id of a person."""
    reviewer_name: str | None = Field(default=None, alias="reviewerName")
    timestamp_created: JsonInteger | None = Field(default=None, alias="timestampCreated")
    """Seconds since the epoch."""


class FacebookRating(Document):
    """GET `c3_facebook_ratings/<id>`. Reading one clears its dirty flag.

    Source: Cention API, "Facebook Rating".
    """

    c3_id: JsonInteger | None = None
    data: FacebookRatingData | None = None

    @property
    def said(self) -> FacebookRatingData:
        """What `data` holds; all None where the answer has none."""
        return FacebookRatingData() if self.data is None else self.data


class DirtyFacebookRating(Linked[Document]):
    """A mention of a rating that has changed: its id is the rating's.

    Source: Cention API, "Dirty Facebook Rating List".
    """

    TYPE = DIRTY_FACEBOOK_RATINGS
