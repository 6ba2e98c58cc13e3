"""From `redis.url` to clients: which shape of Redis it names, where its servers are, and how each is reached.

Must not know who asks what of a server. Invariants: TLS checks the certificate and its host name, always; no client
retries, since a retry would run a write twice when only its answer was lost (`docs/adr/0007-store.md`).

Source: docs/redis.md, "The four shapes".
"""

import ssl
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qs, unquote, urlsplit

from redis import asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

CONNECT_S_MAX = 2.0
SENTINEL_S_MAX = 1.0
"""A sentinel that takes longer is passed over for the next: it is asked while a failover is on, when time counts."""

Place = tuple[str, int]
"""A server's host and port."""


class Shape(Enum):
    """Who knows which server takes a command."""

    SINGLE = "one server"
    SENTINEL = "the sentinels"
    CLUSTER = "the cluster's nodes"


@dataclass(frozen=True, slots=True)
class Login:
    """Who a server takes us for."""

    user: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says.

    Attributes:
        places: the server, the sentinels, or some of the cluster's nodes; empty for a unix socket.
        path: of the unix socket, or None.
        master: the sentinels' name for the master, or None.
        db: the database's number; always 0 in a cluster.
    """

    shape: Shape
    places: tuple[Place, ...]
    path: str | None = None
    master: str | None = None
    tls: bool = False
    login: Login = Login()
    db: int = 0


def parse(url: str) -> Address:
    """What `url` says, as `redis.url` is documented in config.toml.

    Raises:
        ValueError: it is none of the documented forms; the message does not quote it, since it may hold a password.
    """
    scheme, _, rest = url.partition("://")
    authority, _, tail = rest.partition("/")
    given, at, names = authority.rpartition("@")
    user, _, password = given.partition(":")
    login = Login(unquote(user) or None, unquote(password)) if at else Login()
    if scheme == "unix":
        path, _, query = tail.partition("?")
        (db,) = parse_qs(query).get("db", ["0"])
        return Address(Shape.SINGLE, (), "/" + unquote(path), login=login, db=int(db))
    tls = scheme.startswith("rediss")
    match scheme:
        case "redis" | "rediss":
            shape, port, master, db = Shape.SINGLE, 6379, None, tail
        case "redis+sentinel" | "rediss+sentinel":
            shape, port = Shape.SENTINEL, 26379
            master, _, db = tail.partition("/")
        case "redis+cluster" | "rediss+cluster":
            shape, port, master, db = Shape.CLUSTER, 6379, None, tail
        case _:
            raise ValueError("the scheme is none of those that redis.url may have")
    places = tuple(_place(name, port) for name in names.split(","))
    return Address(shape, places, None, master, tls, login, int(db or 0))


def _place(text: str, port: int) -> Place:
    parts = urlsplit(f"//{text}")
    if parts.hostname is None:
        raise ValueError("a host's name is missing")
    return parts.hostname, parts.port or port


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for TLS, in PEM.

    Attributes:
        ca_file: authorities to trust besides the system's.
        cert_file, key_file: our own certificate and its key, for a server that asks for one.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


class Clients:
    """Makes clients for the servers of one address."""

    def __init__(self, address: Address, *, timeout_s: float, tls: Tls, sentinel: Login, connections_max: int) -> None:
        self._address, self._tls, self._sentinel = address, tls, sentinel
        self.timeout_s, self._connections_max = timeout_s, connections_max

    def server(self, place: Place | None) -> redis.Redis:
        """A client for the server at `place`; None for the unix socket."""
        return self._client(place, self._address.login, self._address.db, CONNECT_S_MAX)

    def sentinel(self, place: Place) -> redis.Redis:
        return self._client(place, self._sentinel, 0, SENTINEL_S_MAX)

    def _client(self, place: Place | None, login: Login, db: int, connect_s_max: float) -> redis.Redis:
        host, port = place or ("", 0)
        return redis.Redis(
            host=host,
            port=port,
            unix_socket_path=None if place else self._address.path,
            db=db,
            username=login.user,
            password=login.password,
            ssl=self._address.tls,
            ssl_cert_reqs="required",
            ssl_check_hostname=True,
            ssl_min_version=ssl.TLSVersion.TLSv1_2,
            ssl_ca_certs=self._tls.ca_file,
            ssl_certfile=self._tls.cert_file,
            ssl_keyfile=self._tls.key_file,
            # The older protocol: it needs no HELLO, which some proxies before Redis lack, and answers alike everywhere.
            protocol=2,
            driver_info=None,  # it would be told by CLIENT SETINFO, which an ACL of the least cannot allow before 7.2
            decode_responses=True,
            encoding_errors="surrogateescape",  # what was packed comes back as it was: see `bridge.store.records`
            socket_timeout=None,  # whoever asks has the clock
            socket_connect_timeout=min(self.timeout_s, connect_s_max),
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            max_connections=self._connections_max,
        )
