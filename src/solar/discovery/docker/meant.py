"""A container that is meant to be an engine, and the backend that it makes once it has answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from solar.core.backend import Backend
from solar.discovery.asking import Asked
from solar.discovery.docker.containers import Container
from solar.discovery.docker.images import ImageRule
from solar.discovery.docker.labels import Labels


@dataclass(frozen=True, slots=True)
class Meant:
    """What is known of it before it is asked."""

    container: Container
    labels: Labels
    rule: ImageRule | None  # the one that its image follows

    @property
    def why(self) -> str:
        """What says that it is one."""
        return f"image {self.container.image}" if self.rule is not None else self.labels.shown

    @property
    def type(self) -> str:
        """What it is said to be."""
        return self.labels.type or (self.rule.backend_type if self.rule is not None else "auto")

    @property
    def ports(self) -> tuple[int, ...]:
        """Where it may listen inside."""
        of_image = self.rule.default_port if self.rule is not None and self.labels.type is None else None
        return self.container.ports(self.labels.port, self.type, of_image)

    def backend(
        self,
        url: str,
        asked: Asked,
        before: Backend | None,
        *,
        others: tuple[str, ...],
        host: str,
        suffix: str,
        api_key: str | None,
    ) -> tuple[Backend, list[str]]:
        """It answered at `url`, and behind `others`: the backend, and what is odd about it.

        `before` is what it was when it was last asked. Raises InvalidBackend for a name that no id may hold.
        """
        labels = self.labels
        kind, notes = self._kind(asked, before)
        aliases, unclear = self._aliases(asked, before)
        backend = Backend(
            id=f"{kind}-{self.container.name}{suffix}",
            url=url,
            type=kind,
            api_key=api_key,
            models=labels.models,
            aliases=aliases,
            host=host,
            weight=labels.weight,
            priority=labels.priority,
            max_in_flight=labels.max_in_flight,
            cancel=labels.cancel,
            source="docker",
            other_urls=others,
        )
        return backend, [*notes, *unclear]

    def _kind(self, asked: Asked, before: Backend | None) -> tuple[str, list[str]]:
        """Its label is the user's last word; else it is what it says, or said, and only then what its image says."""
        told = asked.type if asked.type != "generic" else None  # which says as little as nothing
        if told is None:
            return self.labels.type or (before.type if before is not None else self._or_generic()), []
        if self.labels.type is not None:
            odd = f"its label says {self.labels.type}, it says {told}: the label counts"
            return self.labels.type, [odd] if told != self.labels.type else []
        odd = f"its image says {self.type}, it says {told}: that counts"
        return told, [odd] if self.type not in ("auto", told) else []

    def _or_generic(self) -> str:
        return "generic" if self.type == "auto" else self.type

    def _aliases(self, asked: Asked, before: Backend | None) -> tuple[Mapping[str, str], list[str]]:
        """Those that name their model, and those that mean the only one: which that is, a loading one tells later."""
        labels = self.labels
        models = labels.models or asked.models
        if not labels.plain_aliases:
            return labels.aliases, []
        if not models:
            return (labels.aliases if before is None else before.aliases), []
        if len(models) > 1:
            names = ", ".join(labels.plain_aliases)
            return labels.aliases, [f"which of its {len(models)} models is {names}? Write alias=model in its label"]
        return {**dict.fromkeys(labels.plain_aliases, models[0]), **labels.aliases}, []
