"""The log names the user whose request it was, in each step of a request that takes time, and in nothing between."""

from __future__ import annotations

import asyncio

import pytest

from lispmob.api.mapping.follow import Author, Signature, Signed

WHO = Author(object(), 4711, 7)


def test_each_step_of_a_request_has_its_author_and_steps_between_have_none() -> None:
    signature, seen = Signature(), []

    async def request() -> str:
        seen.append(signature.author)
        await asyncio.sleep(0)
        seen.append(signature.author)
        return "done"

    async def scenario() -> object:
        asyncio.get_running_loop().call_soon(lambda: seen.append(signature.author))
        return await Signed(request(), signature, WHO)

    assert asyncio.run(scenario()) == "done"
    assert seen == [WHO, None, WHO]
    assert signature.author is None


def test_what_a_request_waits_for_may_fail_and_the_request_deals_with_it() -> None:
    signature = Signature()

    async def request() -> str:
        failing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(failing.set_exception, ValueError("no"))
        try:
            await failing
        except ValueError:
            return "dealt with"
        return "not seen"

    async def scenario() -> object:
        return await Signed(request(), signature, WHO)

    assert asyncio.run(scenario()) == "dealt with"
    assert signature.author is None


def test_an_error_of_a_request_goes_on_and_so_does_its_end() -> None:
    signature, ended = Signature(), []

    async def fails() -> None:
        await asyncio.to_thread(int, "x")

    async def endless() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.append(signature.author)

    async def scenario() -> None:
        with pytest.raises(ValueError, match="invalid literal"):
            await Signed(fails(), signature, WHO)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await Signed(endless(), signature, WHO)

    asyncio.run(scenario())
    assert ended == [WHO]
