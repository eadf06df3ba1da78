"""The instances of an agent, whichever dialect it tells them in, and the backends that they are when they run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from solar.core.backend import BACKEND_TYPES, Backend
from solar.wire.address import AgentUrl, instance_url
from solar.wire.reading import Fields, Unreadable, decode, decode_object

MAX_INSTANCES = 1000  # of one agent: no machine runs as many
STATUSES = ("stopped", "starting", "running", "stopping", "failed")

_CHAT = ("/v1/chat/completions", "/v1/completions", "/v1/models")
# What a v2 agent says of every llama-server, whatever it was started for.
_SAID_OF_ALL = {*_CHAT, "/v1/embeddings", "/v1/rerank"}
_OF_MODEL_TYPE: Mapping[str, tuple[str, ...]] = {
    "llm": _CHAT,
    "embedding": ("/v1/embeddings", "/v1/models"),
    "reranker": ("/v1/rerank", "/v1/models"),
}
_OF_ENGINE: Mapping[str, tuple[str, ...]] = {
    "huggingface_classification": ("/v1/classify", "/v1/models"),
    "huggingface_embedding": ("/v1/embeddings", "/v1/models"),
}


@dataclass(frozen=True, slots=True)
class Instance:
    """One engine process that an agent runs, or would run: what its agent says of it."""

    id: str
    alias: str = ""  # the name that clients ask for; "" where it has none that can be used
    status: str = "stopped"  # one of STATUSES, or what the agent calls it. "running" is not "ready"
    port: int | None = None  # on its agent's host
    pid: int | None = None
    created_at: str | None = None  # ISO 8601, as the agent wrote it
    started_at: str | None = None
    error_message: str | None = None
    retry_count: int = 0
    engine: str = "llamacpp"  # llamacpp, huggingface_causal, vllm, ...
    model_type: str | None = None  # llm, embedding or reranker, where the engine has all three
    model: str | None = None  # the file or repository that it loads
    endpoints: tuple[str, ...] = _CHAT  # what it can be asked, as paths
    model_name: str | None = None  # the engine's own name for the model, where that is not the alias
    context: int | None = None  # tokens
    api_key: str | None = field(default=None, repr=False)  # its own, where it has one; else it takes its agent's

    @property
    def running(self) -> bool:
        """Its agent says that the process lives. Whether it serves, or still loads, only its port can tell."""
        return self.status == "running"


@dataclass(frozen=True, slots=True)
class Listing:
    """The instances of one agent, and in `complaints` what of them could not be read."""

    instances: tuple[Instance, ...]
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Home:
    """What a host lends its instances when they become backends."""

    id: str  # the host's: its instances share RAM and GPU, so they share its load
    agent: AgentUrl
    api_key: str | None = field(default=None, repr=False)  # the agent's; an instance without its own takes it
    weight: float = 1.0


def read_instances(body: bytes) -> Listing:
    """The answer of GET /instances: a bare list, or `{"instances": [...]}`. Raises Unreadable when it is neither."""
    value = decode(body)
    if isinstance(value, dict):
        value = value.get("instances")
    if not isinstance(value, list):
        raise Unreadable("a list of instances was expected")
    return instances_of(value)


def read_instance(body: bytes) -> Instance:
    """One instance: bare, or as `{"instance": {...}, "message": ...}`. Raises Unreadable when it has no id."""
    record = decode_object(body)
    wrapped = record.get("instance")
    found = _instance_of(wrapped if isinstance(wrapped, dict) else record, "the instance", [])
    if found is None:
        raise Unreadable("an instance was expected, and this has no id")
    return found


def instances_of(records: Iterable[object]) -> Listing:
    """The instances of a list, full or as the channel tells them. One that is broken hides none of the others."""
    complaints: list[str] = []
    found: dict[str, Instance] = {}
    for number, record in enumerate(records):
        if number == MAX_INSTANCES:
            complaints.append(f"there are more than {MAX_INSTANCES} instances: the others are left out")
            break
        who = f"instance {number}"
        instance = _instance_of(record, who, complaints) if isinstance(record, dict) else None
        if instance is None:
            complaints.append(f"{who} has no id")
        elif instance.id in found:
            complaints.append(f"{who} has the id {instance.id!r} of an earlier one")
        else:
            found[instance.id] = instance
    return Listing(tuple(found.values()), tuple(complaints))


def updated(known: Iterable[Instance], told: Iterable[Instance]) -> tuple[Instance, ...]:
    """What a link tells of all instances, with what was known of each from its full record.

    A link tells little of each: what it leaves out stays, but for what was true of another process or configuration.
    """
    before = {instance.id: instance for instance in known}
    return tuple(_updated(before[new.id], new) if new.id in before else new for new in told)


def _updated(old: Instance, new: Instance) -> Instance:
    if (old.alias, old.engine) != (new.alias, new.engine):  # it was configured anew
        return replace(new, created_at=old.created_at, api_key=old.api_key)
    if (old.status, old.port) == (new.status, new.port):
        return old
    return replace(old, status=new.status, port=new.port, pid=None, started_at=None, error_message=None)


def why_no_backend(instance: Instance) -> str:
    """Why nothing can be sent to an instance; "" where it can, if its host can be reached."""
    if not instance.running:
        return ": ".join(part for part in (instance.status, instance.error_message) if part)
    if not instance.port:
        return "its agent tells no port of it"
    return "" if instance.alias else "it has no alias"


def backend_of(instance: Instance, home: Home) -> Backend | None:
    """The backend that an instance is while it runs, else None. Its probes say when it is ready."""
    if why_no_backend(instance) or instance.port is None:
        return None
    own = instance.model_name
    return Backend(
        id=backend_id(home.id, instance.id),
        url=instance_url(home.agent, instance.port),
        type=_type_of(instance.engine),
        api_key=instance.api_key or home.api_key,
        models=(instance.alias if own is None else own,),
        aliases={} if own is None else {instance.alias: own},
        host=home.id,
        weight=home.weight,
        source="fleet",
    )


def backend_id(host_id: str, instance_id: str) -> str:
    """What the router calls an instance."""
    return f"{host_id}/{quote(instance_id, safe='')}"


def _type_of(engine: str) -> str:
    if engine in BACKEND_TYPES:
        return engine
    return "generic" if engine.startswith("huggingface") else "auto"


def _instance_of(record: Mapping[str, object], who: str, complaints: list[str]) -> Instance | None:
    """Reads a full record, whose settings stand in `config`, and the channel's flat one."""
    fields = Fields(record, who, complaints)
    identity = fields.name("id")
    if identity is None:
        return None
    nested = fields.inner("config")
    config = Fields(nested if nested else record, f"instance {identity!r}", complaints)
    fields = Fields(record, f"instance {identity!r}", complaints)
    alias = config.name("alias") or ""
    engine = config.name("backend_type") or _guessed(nested)
    model_type = config.name("model_type") if engine == "llamacpp" else None
    own = fields.name("served_model_name")
    return Instance(
        id=identity,
        alias=alias,
        status=fields.name("status") or "stopped",
        port=_port(fields),
        pid=fields.whole("pid"),
        created_at=fields.text("created_at"),
        started_at=fields.text("started_at"),
        error_message=fields.text("error_message"),
        retry_count=fields.whole("retry_count") or 0,
        engine=engine,
        model_type=model_type,
        model=config.text("model") or config.text("model_id") or config.text("model_source"),
        endpoints=_endpoints(engine, model_type, fields.texts("supported_endpoints")),
        model_name=None if own == alias else own,
        context=fields.whole("context_size") or config.whole("ctx_size") or config.whole("max_length"),
        api_key=_key(config),
    )


def _guessed(config: Mapping[str, object]) -> str:
    """The engine of a record that names none: records of v1, and older ones of v2."""
    if config.get("model") or not config.get("model_id"):
        return "llamacpp"
    return "huggingface_classification" if config.get("labels") else "huggingface_causal"


def _endpoints(engine: str, model_type: str | None, told: tuple[str, ...] | None) -> tuple[str, ...]:
    if engine == "llamacpp" and (not told or set(told) == _SAID_OF_ALL):
        return _OF_MODEL_TYPE.get(model_type or "llm", _CHAT)
    return told or _OF_ENGINE.get(engine, _CHAT)


def _port(fields: Fields) -> int | None:
    port = fields.whole("port")
    if port is None or 0 < port < 65536:
        return port
    fields.complain("port", "from 1 to 65535")
    return None


def _key(config: Fields) -> str | None:
    key = config.text("api_key", secret=True)
    if not key:
        return None
    if key.isascii() and key.isprintable():
        return key
    config.complain("api_key", "printable ASCII", secret=True)
    return None
