"""What others believe about a node: the reply to `believed`."""

from __future__ import annotations

from typing import Literal

import msgspec

from lispmob.api.schema import RemoteLocator


class MappingSystemBelief(msgspec.Struct, frozen=True, kw_only=True):
    """A Map-Resolver's answer about a local EID; `differences`, a sentence each, from our own mapping, `truth`.

    `answer`: "record"; "negative": no locators; "forwards": it has us answer ourselves, and sends there; "silent";
    "cannot-ask": we have no locator of its family, or none without an RTR.
    """

    map_resolver: str
    eid: str
    answer: Literal["record", "negative", "forwards", "silent", "cannot-ask"]
    says: list[RemoteLocator] = []
    truth: list[RemoteLocator] = []
    differences: list[str] = []
    forwarded_to: str | None = None
    rtt_ms: float | None = None


class Correspondent(msgspec.Struct, frozen=True, kw_only=True):
    """A remote locator in use, and where its data last arrived, which shows its mapping of us.

    "late": although it should send to one of `better`. "not-heard": it sent nothing within a minute.
    """

    rloc: str
    eid: str
    verdict: Literal["right", "late", "not-heard"]
    sends_to: str | None = None
    ago_s: float | None = None
    better: list[str] = []


class Believed(msgspec.Struct, frozen=True, kw_only=True):
    """The whole reply."""

    mapping_system: list[MappingSystemBelief]
    correspondents: list[Correspondent]
