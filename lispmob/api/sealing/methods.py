"""The methods of the control socket about sealed data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lispmob.api.checked import read_prefix
from lispmob.api.method import Method
from lispmob.api.schema import Changed, NoParams, PrefixParams

if TYPE_CHECKING:
    from lispmob.api.backend import Backend


def _accept(backend: Backend, params: PrefixParams) -> Changed:
    backend.accept_key(read_prefix(params.prefix))
    return Changed(count=1)


def _forget(backend: Backend, params: PrefixParams) -> Changed:
    backend.forget_key(read_prefix(params.prefix))
    return Changed(count=1)


SEAL_METHODS: Final[dict[str, Method]] = {
    "keys": Method(NoParams, lambda backend, _: backend.keys()),
    "replace-key": Method(NoParams, lambda backend, _: backend.replace_key(), is_change=True),
    "rekey": Method(NoParams, lambda backend, _: Changed(count=backend.rekey()), is_change=True),
    "forget-key": Method(PrefixParams, _forget, is_change=True),
    "accept-key": Method(PrefixParams, _accept, is_change=True),
}
