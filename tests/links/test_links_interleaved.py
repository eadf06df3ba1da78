"""Whatever looks, links and their ends meet, the host's status is what the last word of those that count says."""

import asyncio
import logging
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from solar.control.fleet.calls import AgentAnswer, HostUnreachable
from solar.control.fleet.hosts import HostWatch, Pace
from solar.control.fleet.view import What
from solar.store import Host
from solar.wire.instances import Instance, Listing
from solar.wire.messages import InstancesUpdate, Ping

LOG = logging.getLogger("solar.links-test")


@dataclass
class Link:
    called: str | None = None
    ended: list[str] = field(default_factory=list)

    def end(self, why: str) -> None:
        self.ended.append(why)


class Agent:
    answers = True
    lists = ""

    async def ask(self, method: str, path: str, *_: object, **__: object) -> AgentAnswer:
        if not self.answers:
            raise HostUnreachable("nobody")
        page = {"/health": '{"service": "solar-host", "version": "2.0.0"}', "/instances": f"[{self.lists}]"}
        return AgentAnswer(200 if path in page else 503, page.get(path, "").encode())


LINKS = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["linked", "unlinked", "hushed", "pings", "tells"]), LINKS),
    st.tuples(st.just("looks"), st.booleans()),
)


@given(st.lists(STEPS, max_size=30))
@settings(deadline=None, max_examples=60)
def test_only_the_link_that_stands_and_the_last_look_say_how_a_host_is(steps: list[tuple[str, int]]) -> None:
    told: list[tuple[What, str]] = []
    agent = Agent()
    watch = HostWatch(
        Host("h", "h", "http://h:8001", "k", 1),
        agent,
        lambda watch, what: told.append((what, watch.status)),
        pace=Pace(),
        log=LOG,
    )
    links = [Link() for _ in range(3)]
    stands, quiet, lists = None, False, ""
    for number, (step, which) in enumerate(steps):
        link = links[which]
        match step:
            case "linked" if stands is not link:  # a connection registers once
                if stands is not None:
                    links[links.index(stands)] = Link()  # it has ended, and comes back as another
                stands, quiet = link, False
                watch.linked(link)
            case "unlinked":
                watch.unlinked(link)
                stands, quiet = (None, False) if stands is link else (stands, quiet)
            case "hushed":
                watch.hushed(link)
                quiet = quiet or stands is link
            case "pings":
                assert watch.heard(link, Ping()) == (stands is link)
                quiet = quiet and stands is not link
            case "tells":
                told_of = Listing((Instance(f"{number}"),))
                assert watch.heard(link, InstancesUpdate("", told_of)) == (stands is link)
                if stands is link:
                    quiet, lists = False, f"{number}"
            case "looks":
                agent.answers, agent.lists = bool(which), f'{{"id": "look-{number}"}}'
                asyncio.run(watch.look())
                lists = f"look-{number}" if which else lists
                # An end of a link is settled by the look that it asks for.
                assert watch.status == ("online" if which or (stands and not quiet) else "offline")
        assert watch.view.connected == (stands is not None)
        assert (watch.link is not None) == (stands is not None and not quiet)
        assert [one.id for one in watch.instances] == ([lists] if lists else [])
        if stands is not None and not quiet:
            assert watch.status == "online"
    assert all(len(link.ended) <= 1 for link in links)
    statuses = [status for what, status in told if what == "status"]
    assert all(a != b for a, b in pairwise(statuses))
