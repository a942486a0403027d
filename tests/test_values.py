"""Our `dataclass` beside the standard library's: nothing differs but when it is compiled."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, field, replace
from typing import Any

import pytest

import lispmob
from lispmob import values


def classes() -> list[type]:
    """Every class of the tree that is made with it."""
    found: set[type] = set()
    for module in pkgutil.walk_packages(lispmob.__path__, "lispmob."):
        if not module.name.startswith("lispmob.lab.") and not module.name.endswith("__main__"):
            for var in vars(importlib.import_module(module.name)).values():
                if isinstance(var, type) and "__lispmob_compared__" in vars(var):
                    found.add(var)
    return sorted(found, key=lambda each: f"{each.__module__}.{each.__qualname__}")


def parameters(init: Callable[..., None]) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults; the mark of a default that is made anew is each library's own."""
    listed = list(inspect.signature(init).parameters.values())[1:]
    return [(each.name, each.kind, "made anew" if type(each.default) in MARKS else each.default) for each in listed]


MARKS = {object, type(dataclasses._HAS_DEFAULT_FACTORY)}  # type: ignore[attr-defined]


@pytest.mark.parametrize("made", classes(), ids=lambda each: each.__qualname__)
def test_every_class_takes_what_its_twin_takes(made: type) -> None:
    is_frozen = made.__setattr__ is values._refuse_to_set  # type: ignore[comparison-overlap]
    blueprint = [
        (one.name, one.type, field(default_factory=one.default_factory, init=one.init))
        if one.default_factory is not dataclasses.MISSING
        else (one.name, one.type, field(default=one.default, init=one.init))
        for one in dataclasses.fields(made)
    ]
    twin = dataclasses.make_dataclass("Twin", blueprint, frozen=is_frozen, slots=True)

    compiled = values._compile_init(made, frozen=is_frozen)

    assert parameters(compiled) == parameters(twin.__init__)  # type: ignore[misc]
    assert made.__match_args__ == twin.__match_args__  # type: ignore[attr-defined]
    if made.__bases__ == (object,):
        assert vars(made).get("__slots__") in (None, vars(twin)["__slots__"])


def pair(**options: bool) -> list[type]:
    """One class by each of the two."""

    def written() -> type:
        class Thing:
            """A thing."""

            name: str
            size: int = 3
            tags: list[str] = field(default_factory=list)
            hidden: str = field(default="", compare=False, repr=False)

            def __post_init__(self) -> None:
                if self.size < 0:
                    raise ValueError("a size is not negative")

        return Thing

    return [values.dataclass(**options)(written()), dataclasses.dataclass(**options)(written())]


@pytest.mark.parametrize("make", pair(frozen=True, slots=True), ids=["ours", "theirs"])
def test_a_frozen_value_compares_hashes_shows_and_refuses(make: Callable[..., Any]) -> None:
    one = make("a", tags=("x",), hidden="1")

    assert one == make("a", 3, ("x",), "2")
    assert hash(one) == hash(make("a", 3, ("x",), "2"))
    assert one != make("a", 4, ("x",))
    assert one != "a"
    assert repr(one).endswith("Thing(name='a', size=3, tags=('x',))")
    assert asdict(replace(one, size=5)) == {"name": "a", "size": 5, "tags": ("x",), "hidden": "1"}
    assert copy.copy(one) == copy.deepcopy(one) == one
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'size'"):
        one.size = 4
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'size'"):
        del one.size
    with pytest.raises(ValueError, match="not negative"):
        make("a", -1)
    with pytest.raises(TypeError, match="name"):
        make()
    with pytest.raises(TypeError, match="colour"):
        make("a", colour="red")


@pytest.mark.parametrize("make", pair(slots=True), ids=["ours", "theirs"])
def test_a_value_that_may_change_has_no_hash_and_no_other_attributes(make: Callable[..., Any]) -> None:
    one, other = make("a"), make("a")
    one.size = 7

    assert (one.size, other.size) == (7, 3)
    assert one.tags is not other.tags
    assert one != other
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
    with pytest.raises(AttributeError):
        one.colour = "red"


@pytest.mark.parametrize("make", pair(slots=True, eq=False), ids=["ours", "theirs"])
def test_a_value_without_comparison_is_equal_to_itself_alone(make: Callable[..., Any]) -> None:
    one = make("a")

    assert one == one
    assert one != make("a")
    assert len({one, make("a")}) == 2


@values.dataclass(frozen=True, slots=True)
class Kept:
    """A value that outlives its process."""

    names: tuple[str, ...]
    nobody: None = None


def test_a_value_can_be_put_away_and_taken_out_again() -> None:
    assert pickle.loads(pickle.dumps(Kept(("a", "b")))) == Kept(("a", "b"))  # noqa: S301 - of our own making
