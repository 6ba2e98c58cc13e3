"""From a TOML file, the environment and secret files to one tree of raw values, with every fault on the way.

Owns where settings come from and what beats what. Must not know what a setting means: it is told the keys (`Key`) and
leaves the values to the models of `bridge.settings`.

Invariants: a user's mistake is never raised, it is collected, so that all of them are told at once. No fault quotes a
value or a secret file's name, since a token is easily put where its file's name belongs.
"""

import difflib
import json
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

PREFIX = "BRIDGE_"
DEFAULT_FILE = Path("config.toml")

Kind = Literal["text", "number", "list", "table"]


@dataclass(frozen=True, slots=True)
class SettingFault:
    """One thing to mend.

    Attributes:
        path: dotted, such as `intake.port` or `cention.routes[0].queue`; the file's name when the file is at fault.
        detail: what is wrong and how to mend it, never the value of a secret.
    """

    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Key:
    """What has to be known of a key to read it.

    Attributes:
        kind: how its text in the environment is read.
        secret: whether it, each entry of its list, or each value of its table, is a secret with a `_file` form.
        optional: whether it may be without a value.
        names: the keys of a table.
        item_secrets: in a list of tables, which keys of an item are secrets.
        lone: whether a text alone stands for a list of one.
    """

    kind: Kind
    secret: bool = False
    optional: bool = False
    names: tuple[str, ...] = ()
    item_secrets: tuple[str, ...] = ()
    lone: bool = False


Catalogue = Mapping[str, Mapping[str, Key]]
"""Section -> key -> what it is."""


@dataclass(slots=True)
class Sources:
    """What was gathered.

    Attributes:
        tree: section -> key -> raw value.
        faults: in the order they were met.
        unknown: dotted paths whose value is somewhere unreadable; that it is missing is no news, and rules that read it
            have nothing to say.
        origins: dotted path -> where its value came from, in words, when that is not the TOML file.
    """

    tree: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[SettingFault] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    origins: dict[str, str] = field(default_factory=dict)

    def fault(self, path: str, detail: str) -> None:
        """Adds a fault, with the variable or file that `path` (or what holds it) came from."""
        holders = [p for p in self.origins if path == p or path.startswith((f"{p}.", f"{p}[", f"{p}_file"))]
        origin = f" ({self.origins[max(holders, key=len)]})" if holders else ""
        self.faults.append(SettingFault(path, detail + origin))


def gather(file: Path | None, environ: Mapping[str, str], catalogue: Catalogue) -> Sources:
    """Reads all sources into one tree. The environment beats the file, key by key.

    Args:
        file: the TOML file; None for `./config.toml`, which may be missing.
        environ: the environment; only names with `BRIDGE_` and a `__` in the rest are looked at.
        catalogue: every key there is.
    """
    found = Sources()
    lost = _read_file(file, catalogue, found)
    _read_environment(environ, catalogue, found)
    for section in lost:
        told = found.tree[section]
        found.unknown |= {f"{section}.{key}" for key in catalogue[section] if not {key, f"{key}_file"} & told.keys()}
    for section, keys in catalogue.items():
        _read_secrets(section, keys, found)
    return found


def suggestion(name: str, known: Collection[str]) -> str:
    """`; did you mean …?` with the nearest of `known`, or nothing when none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def with_files(names: Collection[str], secrets: Collection[str]) -> list[str]:
    """`names`, and the `_file` forms of those that are `secrets`: all that may be written in a table."""
    return [*names, *(f"{name}_file" for name in secrets)]


def _read_file(file: Path | None, catalogue: Catalogue, found: Sources) -> Collection[str]:
    """Fills the tree from the TOML file. Returns the sections whose content could not be found out."""
    found.tree = {section: {} for section in catalogue}
    path = DEFAULT_FILE if file is None else file
    try:
        document = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        if file is None:
            return ()
        found.fault(str(path), "there is no such file; name one that exists, or none to run on the defaults")
        return tuple(catalogue)
    except OSError as error:
        found.fault(str(path), f"cannot be read: {error.strerror}")
        return tuple(catalogue)
    except UnicodeDecodeError as error:
        found.fault(str(path), f"is not UTF-8 text (byte {error.start}); save it as UTF-8")
        return tuple(catalogue)
    except (ValueError, RecursionError) as error:
        found.fault(str(path), f"is not TOML, so none of it was read: {error}")
        return tuple(catalogue)
    lost = []
    for section, table in document.items():
        if section not in catalogue:
            found.fault(section, f"is not a section of the settings{suggestion(section, catalogue)}")
        elif isinstance(table, dict):
            found.tree[section] = table
        else:
            found.fault(section, f"must be a table: write its keys below one line `[{section}]`")
            lost.append(section)
    return lost


@dataclass(frozen=True, slots=True)
class _Variable:
    path: tuple[str, ...]
    """Section, key and, in a table, the table's key; the last without `_file`."""
    key: Key
    is_file: bool


def _variables(catalogue: Catalogue) -> Iterator[tuple[str, _Variable]]:
    """Every environment variable there is, by name."""
    for section, keys in catalogue.items():
        for name, key in keys.items():
            # A whole table of secrets has no file form: each of its values has one.
            yield from _forms((section, name), key, with_file=key.secret and key.kind != "table")
            for inner in key.names:
                yield from _forms((section, name, inner), Key("text", key.secret), with_file=key.secret)


def _forms(path: tuple[str, ...], key: Key, *, with_file: bool) -> Iterator[tuple[str, _Variable]]:
    variable = PREFIX + "__".join(path).replace(".", "__").upper()
    yield variable, _Variable(path, key, is_file=False)
    if with_file:
        yield f"{variable}_FILE", _Variable(path, key, is_file=True)


def _read_environment(environ: Mapping[str, str], catalogue: Catalogue, found: Sources) -> None:
    known = dict(_variables(catalogue))
    # Names without `__` are other people's: Kubernetes gives every pod BRIDGE_PORT, BRIDGE_SERVICE_HOST and their like
    # when a Service is called `bridge`.
    ours = [name for name in environ if name.startswith(PREFIX) and "__" in name[len(PREFIX) :]]
    # A whole table comes before its single keys, which are laid on top of it.
    for name in sorted(ours, key=lambda name: (name.count("__"), name)):
        variable = known.get(name)
        if variable is None:
            path = name[len(PREFIX) :].lower().strip("_").replace("__", ".")
            found.fault(path, f"{name} is not a setting{suggestion(name.upper(), known)}")
            continue
        path = ".".join(variable.path)
        already = path in found.origins
        found.origins[path] = f"set by {name}"
        if (value := _parsed(environ[name], variable, path, found)) is not _UNREADABLE:
            _place(found, variable, value, keep_other_form=already)


_UNREADABLE = object()


def _parsed(text: str, variable: _Variable, path: str, found: Sources) -> Any:
    """A variable's text as the value that TOML would have given."""
    key = variable.key
    if variable.is_file:
        return text
    if key.kind == "text" or (key.lone and not text.lstrip().startswith("[")):
        # An empty variable is how Compose and Helm write "none"; an empty secret is more likely a mistake.
        return None if not text.strip() and key.optional and not key.secret else text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if key.kind == "number":
            return text  # "1 MiB" is one; what is not, the model says
        where = f" (at character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else ""
        example = '["one", "two"]' if key.kind == "list" else '{"name": "value"}'
        found.fault(path, f"must be JSON, such as {example}{where}")
        return _UNREADABLE


def _place(found: Sources, variable: _Variable, value: Any, *, keep_other_form: bool) -> None:
    """Lays a variable's value over what the file gave, whichever of the two forms (value, `_file`) that had."""
    *holders, name = variable.path
    table: dict[str, Any] = found.tree
    for depth, holder in enumerate(holders, start=1):
        inner = table.setdefault(holder, {})
        if not isinstance(inner, dict):
            found.fault(".".join(holders[:depth]), "must be a table")
            inner = table[holder] = {}
        table = inner
    if not keep_other_form:  # both forms in the environment stay side by side: `_read_secret` calls that a fault
        table.pop(name, None)
        table.pop(f"{name}_file", None)
    table[f"{name}_file" if variable.is_file else name] = value


def _read_secrets(section: str, keys: Mapping[str, Key], found: Sources) -> None:
    """Puts the content of secret files in the place of their names."""
    table = found.tree[section]
    for name, key in keys.items():
        path = f"{section}.{name}"
        value = table.get(name)
        if key.secret and key.kind != "table":
            _read_secret(table, name, path, found, many=key.kind == "list")
        elif key.secret and isinstance(value, dict):
            for inner in key.names:
                _read_secret(value, inner, f"{path}.{inner}", found)
        elif key.item_secrets and isinstance(value, list):
            for index, item in enumerate(value):
                for inner in key.item_secrets if isinstance(item, dict) else ():
                    _read_secret(item, inner, f"{path}[{index}].{inner}", found)


def _read_secret(table: dict[str, Any], name: str, path: str, found: Sources, *, many: bool = False) -> None:
    if f"{name}_file" not in table:
        return
    given = table.pop(f"{name}_file")
    if name in table:
        found.fault(f"{path}_file", f"is given beside `{name}`; give the value or the file, not both")
        return
    problem = None
    try:
        text = Path(given).read_bytes().decode("utf-8-sig").strip() if isinstance(given, str) and given else ""
        value: Any = (json.loads(text) if text.startswith("[") else _lines(text)) if many else text
        if not isinstance(given, str) or not given.strip():
            problem = "must be the path of a file"
        elif not text:
            problem = "names a file that is empty; put the secret into it"
    except OSError as error:
        problem = f"names a file that cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = "names a file that is not UTF-8 text"
    except json.JSONDecodeError as error:
        problem = f"names a file that starts as a JSON list but is not one (at character {error.pos + 1})"
    except (ValueError, RecursionError):
        problem = "must be the path of a file that holds the secret"
    if problem:
        found.fault(f"{path}_file", problem)
        found.unknown.add(path)
        return
    table[name] = value
    found.origins.setdefault(path, f"read from the file that `{name}_file` names")


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
