from __future__ import annotations

from lispmob.lispd.native_routes import NativeRoutes
from lispmob.protocol.effect import InstallMapping, UsableLocator
from lispmob.wire.address import EidPrefix, parse_ip

HOLE = EidPrefix.parse("10.0.0.0/8")
INSIDE = EidPrefix.parse("10.2.0.0/16")
OUTSIDE = EidPrefix.parse("192.0.2.0/24")
LOCATORS = (UsableLocator(parse_ip("203.0.113.5"), 1, 100),)


def test_a_natively_forwarded_prefix_is_thrown_back_to_the_host() -> None:
    routes = NativeRoutes()

    assert routes.on_installed(InstallMapping(HOLE, "NATIVE"))
    assert routes.native == (HOLE.network,)


def test_a_mapping_inside_a_native_prefix_keeps_a_route_of_its_own() -> None:
    routes = NativeRoutes()
    routes.on_installed(InstallMapping(INSIDE, "ENCAPSULATE", LOCATORS))
    routes.on_installed(InstallMapping(OUTSIDE, "ENCAPSULATE", LOCATORS))

    routes.on_installed(InstallMapping(HOLE, "NATIVE"))

    assert routes.mapped_inside == (INSIDE.network,)


def test_without_native_prefixes_mappings_never_touch_the_kernel() -> None:
    routes = NativeRoutes()

    assert not routes.on_installed(InstallMapping(INSIDE, "ENCAPSULATE", LOCATORS))
    assert not routes.on_removed(INSIDE)


def test_a_prefix_that_gets_a_mapping_is_native_no_more() -> None:
    routes = NativeRoutes()
    routes.on_installed(InstallMapping(INSIDE, "NATIVE"))

    routes.on_installed(InstallMapping(INSIDE, "ENCAPSULATE", LOCATORS))

    assert routes.native == ()


def test_another_instance_has_no_native_side() -> None:
    routes = NativeRoutes()

    routes.on_installed(InstallMapping(EidPrefix(HOLE.network, 7), "NATIVE"))

    assert routes.native == ()
