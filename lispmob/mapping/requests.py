"""What can be asked about mappings, each once: parameters, what the answer means, and how it is said to fail.

`mappings.Mappings` and `aio.Mappings` have a method for each, with its signature: one waits, the other is awaited.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar, Unpack

from lispmob.mapping.messages import Locator, Mapping, MappingError, Reply, Terms, mapping_of, put_params

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])


class Request(Generic[T]):
    """A method of the control socket with its parameters, and how its result is read."""

    def __init__(self, method: str, read: Callable[[Any], T], **params: object) -> None:
        self.method = method
        self.params = params
        self._read = read

    def answer(self, reply: Reply) -> T:
        """What the reply says. Raises MappingError."""
        return self._read(reply.result())


class _Search(Request[Mapping | None]):
    """Finding nothing is an answer."""

    def answer(self, reply: Reply) -> Mapping | None:
        """The mapping, or None. Raises MappingError."""
        try:
            return super().answer(reply)
        except MappingError as error:
            if error.errno != "ESRCH":
                raise
            return None


def shown(method: F, make: Callable[..., object]) -> F:
    """With the signature that `help` is to show: what `make` takes, and what its request is answered with."""
    asked = inspect.signature(make)
    result = str(asked.return_annotation).removeprefix("Request[").removesuffix("]")
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = [own, *asked.parameters.values()]
    vars(method)["__signature__"] = asked.replace(parameters=parameters, return_annotation=result)
    return method


def follow(*kinds: str, dump: bool = False, echo: bool = True) -> Request[list[Mapping]]:
    """Have events from now on: these kinds, or all. With `dump`, the mappings that are there now are returned.

    Nothing that happens after that is missing from the events. `echo` False: not what this connection changes.
    """
    return Request("mapping-events", _entries, kinds=list(kinds), dump=dump, echo=echo)


def dump() -> Request[list[Mapping]]:
    """Every mapping, our own first."""
    return Request("mapping-dump", _entries)


def get(eid: str) -> Request[Mapping | None]:
    """The mapping that holds an address or a prefix; None when there is none."""
    return _Search("mapping-get", mapping_of, eid=eid)


def add(prefix: str, locators: Iterable[Locator] = (), **terms: Unpack[Terms]) -> Request[None]:
    """Add a mapping. Raises MappingError: EEXIST, EINVAL, ENOBUFS."""
    return Request("mapping-add", _nothing, **put_params(prefix, locators, terms))


def put(prefix: str, locators: Iterable[Locator] = (), **terms: Unpack[Terms]) -> Request[None]:
    """Add a mapping, or replace the one that there is. Raises MappingError."""
    return Request("mapping-add", _nothing, **put_params(prefix, locators, terms, replaces=True))


def change(prefix: str, locators: Iterable[Locator] = (), **terms: Unpack[Terms]) -> Request[None]:
    """Replace a mapping that there is. Raises MappingError: ESRCH when there is none."""
    return Request("mapping-change", _nothing, **put_params(prefix, locators, terms))


def delete(prefix: str, *, table: str = "cache") -> Request[None]:
    """Delete the mapping of exactly this prefix. Raises MappingError: ESRCH."""
    return Request("mapping-delete", _nothing, prefix=prefix, table=table)


def flush(table: str = "cache") -> Request[int]:
    """Delete what is not static; "database": our own that were added; "all": both and static ones. How many."""
    return Request("mapping-flush", _count, table=table)


def _entries(result: dict[str, Any]) -> list[Mapping]:
    return [mapping_of(entry) for entry in result.get("entries", ())]


def _count(result: dict[str, Any]) -> int:
    return int(result["count"])


def _nothing(_result: object) -> None:
    """For what is only done."""
