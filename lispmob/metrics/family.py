"""A metric with its name, its help and its values, before it is formatted. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

Sample: TypeAlias = tuple[tuple[str, ...], float]
"""The values of the labels, and the figure."""
Json: TypeAlias = dict[str, Any]
K = TypeVar("K", bound=tuple[str, ...])


class Family(msgspec.Struct, frozen=True):
    """One metric. `labels` are the names of the labels that distinguish its samples."""

    name: str
    help: str
    kind: Literal["gauge", "counter"]
    samples: tuple[Sample, ...]
    labels: tuple[str, ...] = ()

    def as_json(self) -> Json:
        """The same as data for programs."""
        samples = [
            {"labels": dict(zip(self.labels, names, strict=True)), "value": value} for names, value in self.samples
        ]
        return {"name": self.name, "help": self.help, "kind": self.kind, "samples": samples}


def gauge(name: str, text: str, value: float) -> Family:
    """A single figure that goes up and down."""
    return Family(name, text, "gauge", (((), float(value)),))


def counter(name: str, text: str, value: float) -> Family:
    """A single figure that only grows."""
    return Family(name, text, "counter", (((), float(value)),))


def labelled(
    name: str, text: str, labels: tuple[str, ...], values: Mapping[K, float], *, counts: bool = False
) -> Family:
    """Several figures."""
    samples = tuple((key, float(value)) for key, value in sorted(values.items()))
    return Family(name, text, "counter" if counts else "gauge", samples, labels)
