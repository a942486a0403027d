"""`dataclass` for a program that must start quickly: the standard library's own, but compiled where it is first used.

The standard one writes and compiles six methods for every class when it is imported: 0.9 ms each, and lispd has 180 of
them, most of which a start never makes one of. Here all but `__init__` are written once for all classes, and `__init__`
is compiled when the first value is made: 0.1 ms. What differs is the time, nothing else: tests/test_values.py holds
every class of the tree beside its twin. `field`, `fields`, `replace` and `asdict` are the standard library's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool = False, slots: bool = False, eq: bool = True) -> Callable[[type], type]:
        """Decorate a class as `dataclasses.dataclass` does with the same arguments."""

        def decorate(written: type) -> type:
            made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(written)
            made.__init__ = _compiled_when_called(made, frozen=frozen)
            own = vars(made)
            if "__repr__" not in own:
                made.__repr__ = _repr
            if eq:
                has_own_hash = "__hash__" in own and not (own["__hash__"] is None and "__eq__" in own)
                if "__eq__" not in own:
                    made.__eq__ = _eq
                if not has_own_hash:
                    made.__hash__ = _hash if frozen else None
            if frozen:
                made.__setattr__, made.__delattr__ = _refuse_to_set, _refuse_to_delete
                made.__setstate__ = _set_state
            made.__lispmob_compared__ = _getter(made)
            return made

        return decorate


_FACTORY: Final = object()
_set: Final = object.__setattr__


def _getter(made: type) -> Callable[[Any], Any]:
    """What two values are compared by: one attribute, or a tuple of several."""
    names = [field.name for field in dataclasses.fields(made) if field.compare]
    return attrgetter(*names) if names else lambda _: ()


def _repr(self: Any) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    compared = type(self).__lispmob_compared__
    return compared(self) == compared(other)


def _hash(self: Any) -> int:
    return hash(type(self).__lispmob_compared__(self))


def _refuse_to_set(_: Any, name: str, __: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _set_state(self: Any, state: tuple[dict[str, Any] | None, dict[str, Any]] | dict[str, Any]) -> None:
    """For copy and pickle, which would assign to the fields: `state` is what object.__getstate__ gave."""
    parts = state if isinstance(state, tuple) else (state,)
    for part in parts:
        for name, value in (part or {}).items():
            _set(self, name, value)


def _compiled_when_called(made: type, *, frozen: bool) -> Callable[..., None]:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it stands in for one
        compiled = _compile_init(made, frozen=frozen)
        made.__init__ = compiled  # type: ignore[misc]  # this is how a class gets its method later
        compiled(self, *args, **kwargs)

    return __init__


def _compile_init(made: type, *, frozen: bool) -> Callable[..., None]:
    """`__init__` as the standard library would have written it."""
    scope: dict[str, Any] = {"_set": _set, "_FACTORY": _FACTORY}
    parameters, body = ["self"], []
    for field in dataclasses.fields(made):
        name = value = field.name
        if field.default_factory is not MISSING:
            scope[f"_of_{name}"] = field.default_factory
            value = f"_of_{name}() if {name} is _FACTORY else {name}" if field.init else f"_of_{name}()"
            parameter = f"{name}=_FACTORY"
        elif field.default is not MISSING:
            scope[f"_of_{name}"] = field.default
            value = name if field.init else f"_of_{name}"
            parameter = f"{name}=_of_{name}"
        else:
            parameter = name
        if field.init:
            parameters.append(parameter)
        elif value == name:
            continue  # __post_init__ gives it its value
        body.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(made, "__post_init__"):
        body.append("self.__post_init__()")
    lines = [f"def __init__({', '.join(parameters)}):", *(f" {line}" for line in body or ["pass"])]
    exec("\n".join(lines), scope)  # noqa: S102 - the names are those of a class of ours
    compiled: Callable[..., None] = scope["__init__"]
    compiled.__qualname__ = f"{made.__qualname__}.__init__"
    return compiled
