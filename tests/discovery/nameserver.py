"""A name server for tests: answers SRV questions over UDP, or fails."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Self

import dns.message
import dns.name
import dns.rcode
import dns.resolver
import dns.rrset
import pytest


@dataclass(frozen=True, slots=True)
class Service:
    target: str
    port: int
    priority: int = 0
    weight: int = 0


class NameServer(asyncio.DatagramProtocol):
    """Every name has these services; without any, no name exists."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self.ttl = 30
        self.fails = False
        self.asked = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()

    def serve_this_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every resolver that is made reads this server out of its settings."""

        def read(resolver: dns.resolver.BaseResolver, _: Any) -> None:
            resolver.nameservers = ["127.0.0.1"]
            resolver.port = self._transport.get_extra_info("sockname")[1]
            resolver.search = []
            resolver.domain = dns.name.root

        monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", read)

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.asked += 1
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        if self.fails:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif not self.services:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        else:
            lines = [f"{one.priority} {one.weight} {one.port} {one.target}" for one in self.services.values()]
            answer.answer.append(dns.rrset.from_text_list(question.question[0].name, self.ttl, "IN", "SRV", lines))
        self._transport.sendto(answer.to_wire(), address)
