"""Reads values of an old file. A block is read name by name; what no reader asked for is reported at the end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Final

from lispmob.config.values import MAX_INSTANCE_ID
from lispmob.config.yaml_tree import show
from lispmob.convert.report import Report, Resolve
from lispmob.convert.tree import Block, Setting
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.address_class import may_be_rloc, why_no_eid

_WORDS: Final = {
    "on": True,
    "yes": True,
    "true": True,
    "1": True,
    "off": False,
    "no": False,
    "false": False,
    "0": False,
}
_HOST_NAME: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*\.?")
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,14}")
_PLACEHOLDER: Final = re.compile(r"[<\[].*[>\]]?")


class BlockReader:
    """Reads a block. `place`: the key of the new file above which remarks about the block are written."""

    def __init__(self, block: Block, report: Report, place: str = "") -> None:
        self.block = block
        self.report = report
        self.place = place
        self._read: set[str] = set()

    @property
    def line(self) -> int:
        """The line in which the block begins."""
        return self.block.line

    def setting(self, *names: str) -> Setting | None:
        """The last setting with one of these names; None if there is none, or if it has no value."""
        self._read.update(names)
        found = list(self.block.settings(*names))
        return found[-1] if found and found[-1].values else None

    def settings(self, *names: str) -> list[Setting]:
        """All settings with these names."""
        self._read.update(names)
        return list(self.block.settings(*names))

    def blocks(self, *names: str) -> list[Block]:
        """The blocks with these names inside."""
        self._read.update(names)
        return list(self.block.blocks(*names))

    def text(self, *names: str) -> str | None:
        """A value as written."""
        found = self.setting(*names)
        return None if found is None else found.text

    def line_of(self, *names: str) -> int:
        """The line of a setting; that of the block if there is no such setting."""
        found = self.setting(*names)
        return self.line if found is None else found.line

    def boolean(self, *names: str) -> bool | None:
        """on or off, yes or no, true or false."""
        found = self.setting(*names)
        if found is None:
            return None
        if found.text.lower() not in _WORDS:
            self._wrong(found, "on or off")
            return None
        return _WORDS[found.text.lower()]

    def number(self, *names: str, low: int, high: int) -> int | None:
        """A whole number."""
        found = self.setting(*names)
        if found is None:
            return None
        if not re.fullmatch(r"-?[0-9]{1,10}", found.text) or not low <= int(found.text) <= high:
            self._wrong(found, f"{low} to {high}")
            return None
        return int(found.text)

    def addresses(self, *names: str, resolve: Resolve) -> list[tuple[IpAddress, int]]:
        """Addresses, each with its line; host names become addresses."""
        self._read.update(names)
        return [
            (address, setting.line)
            for setting in self.block.settings(*names)
            for value in setting.values
            if (address := self._address(setting, value, resolve)) is not None
        ]

    def interface(self, *names: str) -> str | None:
        """The name of an interface."""
        found = self.setting(*names)
        if found is None or _INTERFACE.fullmatch(found.text):
            return None if found is None else found.text
        self._wrong(found, "the name of an interface")
        return None

    def address(self, *names: str, resolve: Resolve) -> IpAddress | None:
        """An address; for a host name its first address."""
        found = self.setting(*names)
        return None if found is None else self._address(found, found.text, resolve)

    def prefix(self, *names: str, instance_id: int = 0) -> EidPrefix | None:
        """An EID-Prefix."""
        found = self.setting(*names)
        if found is None:
            self.report.mistake(self.line, f"{self.block.name}: there is no {names[0]}", self.place)
            return None
        try:
            network = ip_network(found.text, strict=False)
        except ValueError:
            self._wrong(found, "an EID-Prefix such as 192.0.2.1/32")
            return None
        if (why := why_no_eid(network)) is not None:
            self._wrong(found, f"an EID-Prefix: {why} addresses are no EIDs")
            return None
        if ip_address(found.text.partition("/")[0]) != network.network_address:
            self.report.note(
                found.line, f"{show(found.text)} has bits beyond its length; {network} is meant", self.place
            )
        return EidPrefix(network, instance_id)

    def instance_id(self, *names: str) -> int:
        """An Instance-ID; 0 if it is missing, and for LISPmob's -1."""
        return max(0, self.number(*names, low=-1, high=MAX_INSTANCE_ID) or 0)

    def leave(self, known: Mapping[str, str]) -> None:
        """Report what was not read, without its value, which may be a key.

        `known`: why some settings have no counterpart.
        """
        for item in self.block.items:
            if item.name in self._read or (isinstance(item, Setting) and _WORDS.get(item.text.lower()) is False):
                continue  # a feature that was off, and that we do not have, needs no remark
            name = item.name if not self.block.name else f"{self.block.name}: {item.name}"
            why = known.get(item.name, "there is no such thing here")
            self.report.note(item.line, f"{show(name)}: {why}", self.place)

    def _address(self, setting: Setting, text: str, resolve: Resolve) -> IpAddress | None:
        try:
            address = ip_address(text)
        except ValueError:
            return self._resolved(setting, text, resolve)
        if not (may_be_rloc(address) or address.is_loopback):
            self._wrong(setting, "the address of a host that can be reached", text)
            return None
        return address

    def _resolved(self, setting: Setting, name: str, resolve: Resolve) -> IpAddress | None:
        if _HOST_NAME.fullmatch(name) is None:
            self._wrong(setting, "an address or a host name", name)
            return None
        found = next(iter(resolve(name)), None)
        if found is None:
            why = f"DNS does not know {name} now; find its address, and say: --address {name}=ADDRESS"
            self.report.refuse(setting.line, f"{self._of(setting)}: {why}", self.place)
            return None
        what = f"{name} was {found} when this was written; a name would need DNS, which is away when networks change"
        self.report.note(setting.line, f"{self._of(setting)}: {what}", self.place)
        return found

    def _wrong(self, setting: Setting, accepted: str, text: str | None = None) -> None:
        value = setting.text if text is None else text
        shown = "the example's placeholder" if _PLACEHOLDER.fullmatch(value) else show(value)
        self.report.mistake(setting.line, f"{self._of(setting)}: {shown} is not {accepted}; it is left out", self.place)

    def _of(self, setting: Setting) -> str:
        return f"{self.block.name}: {setting.name}" if self.block.name else setting.name


def unique(addresses: Iterable[tuple[IpAddress, int]]) -> list[IpAddress]:
    """Each address once, in order."""
    return list(dict.fromkeys(address for address, _ in addresses))
