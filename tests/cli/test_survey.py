import asyncio
from collections.abc import AsyncIterator

from solar import Backend
from solar.control.checkup import diagnose_view
from solar.control.diagnosis import Diagnosis
from solar.control.survey import Seen, View, routed, surveying
from solar.discovery.base import BackendsListed, Change
from solar.discovery.sighting import Address, Failed, Sighting, Tried
from solar.errors import SolarError
from solar.testing import FakeBackend


class Told:
    """A discoverer that sees what it is told, or fails."""

    name = "told"

    def __init__(self, *sightings: Sighting, wrong: str = "") -> None:
        self.sightings = sightings
        self.wrong = wrong
        self.changed = asyncio.Event()

    async def look(self) -> tuple[Sighting, ...]:
        if self.wrong:
            raise SolarError(self.wrong)
        return self.sightings

    async def watch(self) -> AsyncIterator[Change]:
        while True:
            await self.changed.wait()
            self.changed.clear()
            yield BackendsListed(())


def tried(url: str, failed: Failed | None = None) -> Tried:
    return Tried(Address(url, "its port"), failed is None, failed or "vllm, with m", failed)


def sighting(url: str, *others: str) -> Sighting:
    backend = Backend("b", url, other_urls=others)
    return Sighting("b", "here", "its port", tuple(map(tried, (url, *others))), backend)


async def test_what_is_found_is_asked_for_all_that_it_has() -> None:
    async with FakeBackend(["m", "n"], kind="vllm") as fake, surveying() as survey:
        (view,) = await survey.look([Told(sighting(fake.url), Sighting("c", "here", "its port"))])
    found, other = view.seen
    assert (found.type, found.models) == ("vllm", ("m", "n"))
    assert (other.type, other.models, other.finding) == ("auto", (), None)


async def test_only_the_address_that_is_routed_to_is_marked() -> None:
    seen = Seen(sighting("http://a:1", "http://b:1"), None)
    assert [seen.kept(one) for one in seen.sighting.tried] == [True, False]


async def test_an_engine_that_two_sources_find_is_one_backend() -> None:
    docker = View("docker", (Seen(sighting("http://10.0.0.2:1", "http://127.0.0.1:1"), None),))
    local = View("local", (Seen(sighting("http://127.0.0.1:1"), None),))
    assert [backend.source for backend in routed([local, docker])] == ["docker"]
    assert [backend.id for backend in routed([local], [Backend("mine", "http://localhost:1")])] == ["mine"]


async def test_a_source_that_fails_does_not_hide_the_others() -> None:
    async with surveying() as survey:
        failed, well = await survey.look([Told(wrong="it is down; start it"), Told()])
    assert (failed.blind, well.blind) == (True, False)
    assert list(diagnose_view(failed)) == [Diagnosis("told", False, "it is down", "start it")]


async def test_a_place_where_nobody_is_needs_no_lines() -> None:
    assert Seen(Sighting("port 1", "here", "usual", (tried("http://a:1", "refused"),)), None).nobody
    assert not Seen(Sighting("port 1", "here", "usual", (tried("http://a:1", "foreign"),)), None).nobody
    assert not Seen(sighting("http://a:1"), None).nobody


async def test_the_doctor_names_what_has_advice_and_nothing_else() -> None:
    lost = Sighting("llm", "here", "image x", (tried("http://a:1", "refused"),), advice="start it with --host 0.0.0.0")
    view = View("docker", (Seen(sighting("http://a:1"), None), Seen(lost, None)))
    assert list(diagnose_view(view)) == [Diagnosis("docker llm", False, "http://a:1: refused", lost.advice)]


async def test_following_looks_again_when_a_source_hears_of_a_change() -> None:
    told = Told()
    async with surveying() as survey, asyncio.timeout(5):
        views = survey.follow([told])
        assert (await anext(views))[0].seen == ()
        told.sightings = (Sighting("b", "here", "its port"),)
        told.changed.set()
        assert [seen.sighting.name for seen in (await anext(views))[0].seen] == ["b"]
        await views.aclose()
