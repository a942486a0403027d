"""EID-Prefixes in lispd.conf: a line of text, or a section with special ranks of uplinks for this EID."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, TypeAlias

import msgspec

from lispmob.config.reader import Section
from lispmob.config.values import EID_TEXT, FieldError, InstanceId, InterfacePattern, Priority, Text, Weight
from lispmob.wire.address import EidPrefix


class EidSection(Section, frozen=True, kw_only=True):
    """An EID-Prefix in its long form."""

    prefix: Annotated[EidPrefix, EID_TEXT]
    instance_id: InstanceId | None = None

    def to_prefix(self) -> EidPrefix:
        """The EID-Prefix; `instance-id` wins over one in brackets."""
        return self.prefix if self.instance_id is None else EidPrefix(self.prefix.network, self.instance_id)


Eid: TypeAlias = Annotated[
    EidPrefix, Text(EID_TEXT.read, EID_TEXT.accepts, mapping=EidSection, from_mapping=EidSection.to_prefix)
]


class EidUplinkSection(Section, frozen=True, kw_only=True):
    """The rank of uplinks with matching names in the mapping of one EID; None: as everywhere."""

    name: InterfacePattern
    priority: Priority | None = None
    weight: Weight | None = None

    def __post_init__(self) -> None:
        if self.priority is None and self.weight is None:
            raise FieldError("name", "a priority or a weight is needed, or this entry changes nothing")


class OwnEid(msgspec.Struct, frozen=True):
    """An EID-Prefix of this node."""

    prefix: EidPrefix
    uplinks: tuple[EidUplinkSection, ...] = ()

    def rank(self, uplink: str, priority: int, weight: int) -> tuple[int, int]:
        """(priority, weight) of this uplink for the EID, given those that hold everywhere; the first match counts."""
        rule = next((section for section in self.uplinks if fnmatchcase(uplink, section.name)), None)
        if rule is None:
            return priority, weight
        return (
            priority if rule.priority is None else rule.priority,
            weight if rule.weight is None else rule.weight,
        )


class OwnEidSection(EidSection, frozen=True, kw_only=True):
    """An EID-Prefix of this node in its long form."""

    uplinks: tuple[EidUplinkSection, ...] = ()

    def __post_init__(self) -> None:
        names = [uplink.name for uplink in self.uplinks]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise FieldError(f"uplinks[{index}].name", f"{name} is listed twice")

    def to_own(self) -> OwnEid:
        """The EID-Prefix with its special settings."""
        return OwnEid(self.to_prefix(), self.uplinks)


OwnEidEntry: TypeAlias = Annotated[
    OwnEid,
    Text(
        lambda text, directory: OwnEid(EID_TEXT.read(text, directory)),
        EID_TEXT.accepts,
        mapping=OwnEidSection,
        from_mapping=OwnEidSection.to_own,
    ),
]
