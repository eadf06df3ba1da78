"""Looks at one container: whether it is meant to be an engine, where that answers, and what there is to say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from solar.core.backend import Backend
from solar.discovery.asking import Asker, Settled
from solar.discovery.docker import advice
from solar.discovery.docker.addresses import candidates, named_network, network_home
from solar.discovery.docker.api import DockerApi
from solar.discovery.docker.containers import Container, read_container
from solar.discovery.docker.images import ImageRule, rule_for
from solar.discovery.docker.keyfile import read_key
from solar.discovery.docker.labels import Labels, read_labels
from solar.discovery.docker.meant import Meant
from solar.discovery.docker.situation import Situation, look_around, machine_of, situate
from solar.discovery.sighting import Address, Sighting
from solar.errors import InvalidBackend


@dataclass(frozen=True, slots=True)
class Rules:
    """By what containers are told to be engines, and where their keys are found."""

    images: tuple[ImageRule, ...]
    label_prefix: str
    key_dirs: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """One container, looked at."""

    container: Container
    sighting: Sighting | None = None  # None: it has nothing to do with us
    settled: Settled | None = None  # None: it is not meant to be an engine, or does not run

    @property
    def backend(self) -> Backend | None:
        return self.sighting.backend if self.sighting is not None else None

    @property
    def stopped(self) -> bool:
        """Whether it can take nothing now."""
        return self.container.paused or not self.container.runs

    @property
    def final(self) -> bool:
        """Whether it told what it is and has: one that is loading may tell later."""
        asked = self.settled.asked if self.settled is not None else None
        return asked is not None and asked.type is not None and bool(asked.models or asked.locked)


class Examiner:
    """Looks at the containers of one engine, from where we stand. `suffix` ends the ids of its backends."""

    def __init__(self, api: DockerApi, asker: Asker, situation: Situation, rules: Rules, suffix: str) -> None:
        self._api = api
        self._asker = asker
        self._situation = situation
        self._rules = rules
        self._suffix = suffix

    async def examine(self, container_id: str, before: Seen | None = None) -> Seen | None:
        """What there is to say of a container; None where there is none. `before` is what was seen of it last.

        Raises DockerFailed.
        """
        container = read_container(await self._api.inspect(container_id))
        if container is None:
            return None
        labels = read_labels(container.labels, self._rules.label_prefix)
        meant = Meant(container, labels, rule_for(container.image, self._rules.images))
        if not meant.why:
            return Seen(container)
        if labels.enable is False or not (meant.rule or labels.enable):
            return Seen(container, self._left_out(container, labels))
        if (seen := Seen(container)).stopped:
            reason = "it is paused" if container.paused else "it does not run"
            return replace(seen, sighting=Sighting(container.name, self._api.url, meant.why, reason=reason))
        return await self._ask(meant, before or seen)

    def _left_out(self, container: Container, labels: Labels) -> Sighting:
        sighting = Sighting(container.name, self._api.url, labels.shown, reason="its label leaves it out")
        if labels.enable is False:
            return sighting
        reason = "; ".join(("nothing says that it is an engine", *labels.notes))
        return replace(sighting, reason=reason, advice=f"if it is one, label it {self._rules.label_prefix}enable=true")

    async def _ask(self, meant: Meant, before: Seen) -> Seen:
        container, labels = meant.container, meant.labels
        around = await networks_around(self._api, container)
        home = network_home(container, around)
        addresses = candidates(container, meant.ports, self._situation, around, url=labels.url, network=labels.network)
        key, notes = self._key(labels)
        settled = await self._settle(addresses, before, meant.type, key)
        backend = before.backend
        if settled.address is not None and settled.asked is not None:
            try:
                backend, odd = meant.backend(
                    settled.address.url,
                    settled.asked,
                    backend,
                    others=settled.others,
                    host=(machine_of(self._api.url) if self._situation.remote else None) or "localhost",
                    suffix=self._suffix,
                    api_key=key,
                )
                notes += odd
            except InvalidBackend as error:
                notes.append(error.message)
        notes += self._oddities(meant, home, settled)
        sighting = Sighting(
            container.name,
            self._api.url,
            meant.why,
            settled.tried,
            backend,
            reason="; ".join((*labels.notes, *notes)),
            advice=self._advice(meant, home, settled),
        )
        return Seen(container, sighting, settled)

    async def _settle(self, addresses: tuple[Address, ...], before: Seen, hint: str, key: str | None) -> Settled:
        """Where all has been told, and the ways there are the same, ask only there; if nobody answers, everywhere."""
        last = before.settled
        if last is not None and last.address and before.final and addresses == tuple(one.address for one in last.tried):
            again = await self._asker.settle([last.address], hint=hint, api_key=key)
            if again.address is not None:
                tried = {one.address: one for one in (*last.tried, *again.tried)}
                return Settled(tuple(tried.values()), again.address, again.asked, last.others)
        return await self._asker.settle(addresses, hint=hint, api_key=key)

    def _key(self, labels: Labels) -> tuple[str | None, list[str]]:
        if labels.api_key_file is None:
            return None, []
        try:
            return read_key(labels.api_key_file, self._rules.key_dirs), []
        except ValueError as error:
            return None, [str(error)]

    def _oddities(self, meant: Meant, home: Container | None, settled: Settled) -> list[str]:
        """What else people should know of it."""
        container, asked = meant.container, settled.asked
        notes = []
        if home is None:
            notes.append("the container whose network it uses is not there")
        elif meant.labels.network and named_network(home, meant.labels.network) is None:
            notes.append(f"it is not in the network {meant.labels.network} that its label names")
        if asked is None:
            notes.append("none of its addresses answers" if settled.tried else "no address leads to it from here")
        elif not asked.models:
            notes.append(asked.outcome)
        if container.health in ("starting", "unhealthy"):
            notes.append(f"its own HEALTHCHECK says {container.health}")
        return notes

    def _advice(self, meant: Meant, home: Container | None, settled: Settled) -> str:
        container = meant.container
        if home is None:
            return f"start that one, and then {container.name} again"
        if settled.asked is not None and settled.asked.locked:
            rules = self._rules
            folders = ", ".join(map(str, rules.key_dirs))
            return f"put its key into a file in {folders}, and name that in its label {rules.label_prefix}api_key_file"
        return advice.advice(
            settled.tried,
            advice.Container(
                name=container.name,
                type=meant.type,
                port=meant.ports[0],
                ips=frozenset(ip for _, ips in home.networks for ip in ips),
                networks=("host",) if home.network_mode == "host" else tuple(name for name, _ in home.networks),
                published=tuple(one.host_ip for one in home.published if one.port in meant.ports),
                ours=self._situation.networks,
                remote=self._situation.remote,
            ),
        )


async def networks_around(api: DockerApi, container: Container) -> Mapping[str, Container]:
    """The containers, by the names by which they are called, whose network it uses, and those whose they use."""
    around: dict[str, Container] = {}
    while (other := container.in_network_of) is not None and other not in around:
        found = read_container(await api.inspect(other))
        if found is None:
            break
        container = around[other] = found
    return around


async def survey(api: DockerApi) -> Situation:
    """Where we stand, as seen from the engine that `api` asks. Raises DockerFailed."""
    info = await api.info()
    ours = look_around()
    for container_id in ours.ids:
        own = read_container(await api.inspect(container_id))
        if own is not None and own.id.startswith(container_id):
            home = network_home(own, await networks_around(api, own))
            return situate(api.url, info, ours, known=True, home=home)
    return situate(api.url, info, ours)
