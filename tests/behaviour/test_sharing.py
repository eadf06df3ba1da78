"""Which of several backends takes a request: hosts share their load, sessions stay, tiers are filled in order."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from gateways import until

from asgi_call import Reply, post
from solar import Backend, Router
from solar.testing import FakeBackend, faults


class Fleet:
    """Backends that hold what they are given until they are told to let go."""

    def __init__(self, router: Router, fakes: dict[str, FakeBackend]) -> None:
        self.router = router
        self.fakes = fakes
        self._open: list[asyncio.Task[Reply]] = []

    async def hold(self, model: str = "m", **headers: str) -> str:
        """One request more in flight; the name of the backend that has it."""
        before = {name: len(fake.inference) for name, fake in self.fakes.items()}
        payload = {"model": model, "stream": True}
        asking = post(self.router, payload, headers=list(headers.items()))
        self._open.append(asyncio.get_running_loop().create_task(asking))

        def taken_by() -> list[str]:
            return [name for name, fake in self.fakes.items() if len(fake.inference) > before[name]]

        await until(taken_by)
        return taken_by()[0]

    async def hold_all(self, *models: str) -> list[str]:
        return [await self.hold(model) for model in models]

    async def let_go(self) -> None:
        for fake in self.fakes.values():
            fake.release()
        await asyncio.gather(*self._open)
        self._open.clear()
        assert [status.in_flight for status in self.router.backends] == [0] * len(self.fakes)


@asynccontextmanager
async def fleet(backends: dict[str, dict[str, Any]], **options: Any) -> AsyncIterator[Fleet]:
    """Backends by name, with their settings; `serves` is what they serve, ["m"] where it is not said."""
    async with AsyncExitStack() as stack:
        fakes = {}
        facts = []
        for name, settings in backends.items():
            serves: Sequence[str] = settings.pop("serves", ["m"])
            fakes[name] = await stack.enter_async_context(FakeBackend(serves))
            fakes[name].always(faults.stall_after(1))
            # Without a host of its own everything on this machine would be one host.
            facts.append(Backend(name, fakes[name].url, **{"host": f"host-of-{name}", **settings}))
        router = await stack.enter_async_context(Router(facts, **options))
        fleet = Fleet(router, fakes)
        yield fleet
        await fleet.let_go()


# --- load


async def test_idle_hosts_take_turns() -> None:
    async with fleet({"a": {}, "b": {}, "c": {}}) as fleet_:
        took = []
        for _ in range(6):
            took.append(await fleet_.hold())
            await fleet_.let_go()
        assert took == ["a", "b", "c", "a", "b", "c"]


async def test_turns_do_not_begin_anew_when_the_catalog_changes() -> None:
    async with fleet({"a": {}, "b": {}}) as fleet_:
        took = []
        for n in range(6):
            took.append(await fleet_.hold())
            await fleet_.let_go()
            await fleet_.router.add_backend(Backend("other", "http://127.0.0.1:9", models=(f"n{n}",)))
            await fleet_.router.remove_backend("other")
        assert took == ["a", "b", "a", "b", "a", "b"]


async def test_requests_go_to_free_hosts_first() -> None:
    async with fleet({"a": {}, "b": {}, "c": {}}) as fleet_:
        assert sorted(await fleet_.hold_all("m", "m", "m")) == ["a", "b", "c"]


async def test_backends_on_one_host_share_its_load() -> None:
    async with fleet({"a1": {"host": "big"}, "a2": {"host": "BIG"}, "b": {"host": "small"}}) as fleet_:
        first = await fleet_.hold()
        second = await fleet_.hold()
        assert (first, second) == ("a1", "b")  # a2 is idle itself, but its host is not
        assert await fleet_.hold() == "a2"


async def test_backends_on_loopback_are_one_host_however_they_spell_it() -> None:
    async with fleet({"a": {"host": None}, "b": {"host": "localhost"}, "c": {"host": "elsewhere"}}) as fleet_:
        assert await fleet_.hold_all("m", "m") == ["a", "c"]


async def test_busy_hosts_are_compared_by_parameters_in_flight() -> None:
    serves = {"serves": ["big-70b", "small-8b"]}
    async with fleet({"a": dict(serves), "b": dict(serves)}) as fleet_:
        assert await fleet_.hold_all("big-70b", "small-8b") == ["a", "b"]
        assert await fleet_.hold_all(*["small-8b"] * 5) == ["b"] * 5  # 13 to 48 billions there, 70 on a


async def test_a_host_of_twice_the_weight_takes_twice_as_much() -> None:
    async with fleet({"a": {"weight": 2.0}, "b": {}}) as fleet_:
        assert Counter(await fleet_.hold_all(*["m"] * 9)) == {"a": 6, "b": 3}


async def test_what_a_full_backend_cannot_take_goes_to_the_next() -> None:
    async with fleet({"a": {"max_in_flight": 1}, "b": {"max_in_flight": 2}}) as fleet_:
        assert sorted(await fleet_.hold_all("m", "m", "m")) == ["a", "b", "b"]


async def test_a_lower_tier_is_filled_before_a_higher_one_is_asked() -> None:
    backends = {"slow": {"priority": 1}, "fast": {"priority": 0, "max_in_flight": 2}}
    async with fleet(backends) as fleet_:
        assert await fleet_.hold_all(*["m"] * 4) == ["fast", "fast", "slow", "slow"]


async def test_a_higher_tier_serves_while_the_lower_one_is_down() -> None:
    async with fleet({"slow": {"priority": 1}, "fast": {}}) as fleet_:
        fleet_.fakes["fast"].die()
        assert await fleet_.hold() == "slow"
        fleet_.fakes["fast"].revive()
        await until(lambda: fleet_.router.backends[1].state == "healthy")
        assert await fleet_.hold() == "fast"


# --- sessions


async def ask(router: Router, session: str, **fields: Any) -> Reply:
    return await post(router, {"model": "m", **fields}, headers=[("x-session-id", session)] if session else [])


@asynccontextmanager
async def three(**options: Any) -> AsyncIterator[tuple[Router, dict[str, FakeBackend]]]:
    async with fleet({"a": {}, "b": {}, "c": {}}, **options) as fleet_:
        for fake in fleet_.fakes.values():
            fake.always(None)
        yield fleet_.router, fleet_.fakes


async def test_a_session_stays_on_its_backend() -> None:
    async with three(session_affinity=True) as (router, _):
        for session in ("one", "two", "three", "four"):
            took = {(await ask(router, session))["x-solar-backend"] for _ in range(4)}
            assert len(took) == 1


async def test_sessions_spread_over_the_backends() -> None:
    async with three(session_affinity=True) as (router, _):
        took = Counter([(await ask(router, f"session-{n}"))["x-solar-backend"] for n in range(90)])
        assert min(took[name] for name in "abc") > 15


async def test_another_router_sends_a_session_to_the_same_backend() -> None:
    async with three(session_affinity=True) as (router, fakes):
        backends = [Backend(name, fake.url, host=name) for name, fake in reversed(fakes.items())]
        async with Router(backends, session_affinity=True) as other:
            for session in map(str, range(20)):
                here, there = await ask(router, session), await ask(other, session)
                assert here["x-solar-backend"] == there["x-solar-backend"]


async def test_requests_without_a_session_still_take_turns() -> None:
    async with three(session_affinity=True) as (router, _):
        assert [(await ask(router, ""))["x-solar-backend"] for _ in range(3)] == ["a", "b", "c"]


async def test_a_session_is_not_kept_where_nobody_asked_for_it() -> None:
    async with three() as (router, _):
        assert [(await ask(router, "s"))["x-solar-backend"] for _ in range(3)] == ["a", "b", "c"]


async def test_a_session_whose_backend_is_gone_is_told_so_and_comes_back() -> None:
    async with three(session_affinity=True) as (router, fakes):
        first = await ask(router, "s")
        home = first["x-solar-backend"] or ""
        assert first["x-session-broken"] is None
        fakes[home].die()
        away = await ask(router, "s")
        assert (away.status, away["x-session-broken"]) == (200, "true")
        assert away["x-solar-backend"] != home
        again = await ask(router, "s")
        assert again["x-solar-backend"] == away["x-solar-backend"]
        fakes[home].revive()
        await until(lambda: all(status.state == "healthy" for status in router.backends))
        back = await ask(router, "s")
        assert (back["x-solar-backend"], back["x-session-broken"]) == (home, None)


async def test_a_session_whose_backend_is_full_is_served_elsewhere_and_told_so() -> None:
    async with fleet({"a": {"max_in_flight": 1}, "b": {"max_in_flight": 1}}, session_affinity=True) as fleet_:
        home = await fleet_.hold(**{"x-session-id": "s"})
        other = "b" if home == "a" else "a"
        fleet_.fakes[other].always(None)
        reply = await ask(fleet_.router, "s")
        assert (reply["x-solar-backend"], reply["x-session-broken"]) == (other, "true")


async def test_a_session_may_be_named_in_the_body_where_that_was_chosen() -> None:
    for field in ("user", "prompt_cache_key"):
        async with three(session_affinity=[field]) as (router, _):
            took = {(await ask(router, "", **{field: "s"}))["x-solar-backend"] for _ in range(4)}
            assert len(took) == 1
            took = {(await ask(router, "s"))["x-solar-backend"] for _ in range(4)}
            assert len(took) == 3  # the header was not chosen


async def test_a_session_header_speaks_before_the_body() -> None:
    async with three(session_affinity=["header", "user", "prompt_cache_key"]) as (router, _):
        for n in range(10):
            plain = await ask(router, "s")
            both = await ask(router, "s", user=f"u{n}", prompt_cache_key=f"p{n}")
            assert both["x-solar-backend"] == plain["x-solar-backend"]


async def test_a_session_stays_in_the_lowest_tier() -> None:
    async with fleet({"a": {}, "b": {}, "spare": {"priority": 1}}, session_affinity=True) as fleet_:
        for fake in fleet_.fakes.values():
            fake.always(None)
        for n in range(30):
            reply = await ask(fleet_.router, f"s{n}")
            assert reply["x-solar-backend"] in ("a", "b")
            assert reply["x-session-broken"] is None
