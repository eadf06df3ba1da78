"""Who is measured, and how each is started: one process or one worker, keep-alive to two backends, nothing exotic."""

from __future__ import annotations

import json
import os
import random
import shlex
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from _machine import said, solar
from _setup import BENCH, NODE_PEER, PEERS, PEERS_FOUND, PYTHON, SOURCES, program

KEY = "bench-key"
CLIENTS = 2048  # whom a proxy makes room for, where it must be told
_BEARER = f"authorization: Bearer {KEY}"


@dataclass(frozen=True, slots=True)
class Contestant:
    """One that is measured. `files` are written into the folder that it runs in."""

    name: str
    what: str
    version: str
    port: int
    command: list[str]
    files: dict[str, str] = field(default_factory=dict)
    headers: tuple[str, ...] = (_BEARER,)
    environment: dict[str, str] = field(default_factory=dict)
    patience: float = 15.0  # seconds that it may take to answer its first request
    processes: int = 1  # that listen on its port

    def write_files(self, folder: Path) -> None:
        """What its command reads."""
        for name, text in self.files.items():
            (folder / name).write_text(text)


def free_port() -> int:
    """A port of the loopback that nobody uses now, outside of those that outgoing connections take."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    # In no order, so that two benchmarks on one machine hardly ever want the same.
    for port in random.sample(range(10_000, max(low, 32_768)), 1000):
        if port not in _taken:
            try:
                with socket.create_server(("127.0.0.1", port)):
                    _taken.add(port)
                    return port
            except OSError:
                continue
    raise SystemExit("no free port on the loopback")


_taken: set[int] = set()


def contestants(
    backends: tuple[int, int], *, doors: Iterable[str], peers: Sequence[str], room: int = CLIENTS
) -> tuple[list[Contestant], dict[str, str]]:
    """Those that can run here, and why the others cannot. `room`: how many clients a proxy must bear."""
    found: list[Contestant] = []
    absent: dict[str, str] = {}
    for name, make in (("nginx", _nginx), ("haproxy", _haproxy)):
        where = program(name)
        if where is None:
            absent[name] = "not installed"
        else:
            found.append(make(where, backends, room))
    found.append(_relay(backends))
    found += _ours(backends, set(doors))
    makers = {"litellm": _litellm, "sglang-router": _sglang, "vllm-router": _vllm, "portkey": _portkey}
    versions = json.loads(PEERS_FOUND.read_text()) if PEERS_FOUND.exists() else {}
    for name in peers:
        if name in versions:
            found.append(makers[name](versions[name], backends))
        else:
            absent[name] = "could not be installed"
    return found, absent


def one_and_two(backends: tuple[int, int]) -> list[Contestant]:
    """One process, and two on one port: of nginx, where it is installed, and of ours."""
    where = program("nginx")
    scale = [_nginx(where, backends, CLIENTS, workers) for workers in (1, 2)] if where else []
    return [*scale, *_ours(backends, {"default"}), _solar_twice(backends)]


# --- the two that set the scale


def _nginx(where: str, backends: tuple[int, int], room: int, workers: int = 1) -> Contestant:
    port = free_port()
    servers = "\n".join(f"    server 127.0.0.1:{backend};" for backend in backends)
    # Two connections a client, and some: with few left nginx drops clients that have not spoken yet.
    # Requests are held whole in memory, as a router that reads their model must; answers are not buffered.
    text = f"""\
daemon off;
{"user root;" if os.geteuid() == 0 else ""}
worker_processes {workers};
pid nginx.pid;
error_log stderr error;
events {{ worker_connections {room * 5 // 2}; }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  client_max_body_size 128m;
  client_body_buffer_size 4m;
  keepalive_requests 100000000;
  upstream backends {{
    least_conn;
{servers}
    keepalive 256;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096{" reuseport" if workers > 1 else ""};
    location / {{
      proxy_pass http://backends;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer upstream-key";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
"""
    name, many = ("nginx", "one worker") if workers == 1 else (f"nginx-{workers}", f"{workers} workers, reuseport")
    return Contestant(
        name,
        f"{many}, least_conn, upstream keep-alive, proxy_buffering off, access log off, no key check",
        said([where, "-v"], r"nginx/(\S+)"),
        port,
        [where, "-p", ".", "-c", "nginx.conf", "-e", "stderr"],
        {"nginx.conf": text},
        processes=workers,
    )


def _haproxy(where: str, backends: tuple[int, int], room: int) -> Contestant:
    port = free_port()
    servers = "\n".join(f"  server b{backend} 127.0.0.1:{backend}" for backend in backends)
    text = f"""\
global
  nbthread 1
  maxconn {room}
defaults
  mode http
  option http-no-delay
  http-reuse always
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend front
  bind 127.0.0.1:{port} backlog 4096
  default_backend backends
backend backends
  balance leastconn
  http-request set-header Authorization "Bearer upstream-key"
{servers}
"""
    return Contestant(
        "haproxy",
        "one thread, leastconn, http-no-delay, http-reuse always, no log, no key check",
        said([where, "-v"], r"version (\d[\d.]*)"),
        port,
        [where, "-db", "-f", "haproxy.cfg"],
        {"haproxy.cfg": text},
    )


def _relay(backends: tuple[int, int]) -> Contestant:
    port = free_port()
    command = [str(PYTHON), str(BENCH / "relay.py"), "--port", str(port)]
    command += [part for backend in backends for part in ("--backend", str(backend))]
    what = "bytes from socket to socket on uvloop, unread: the floor for any gateway in Python"
    return Contestant(
        "relay", what, said([str(PYTHON), "-c", "import uvloop; print(uvloop.__version__)"], r"(\S+)"), port, command
    )


# --- ours


_EVERYTHING = "key check, failover, breaker, metrics, one log line a request, usage counted"


def _ours(backends: tuple[int, int], doors: set[str]) -> list[Contestant]:
    found: list[Contestant] = []
    if "default" in doors:
        port = free_port()
        found.append(Contestant("solar", f"`solar serve`: {_EVERYTHING}", solar(), port, _serve(backends, port)))
    if "interpreted" in doors:
        port = free_port()
        what = f"`solar serve` from its sources, nothing compiled: {_EVERYTHING}"
        sources = {"PYTHONPATH": str(SOURCES)}
        command = _serve(backends, port)
        found.append(Contestant("solar-interpreted", what, solar(), port, command, environment=sources))
    if "records" in doors:
        port = free_port()
        what = f"`solar serve` as it comes: {_EVERYTHING}, and a record of each request in its database"
        found.append(Contestant("solar-records", what, solar(), port, _serve(backends, port, records=True)))
    if "asgi" in doors:
        port = free_port()
        what = f"`solar serve --door asgi`: {_EVERYTHING}"
        found.append(Contestant("solar-asgi", what, solar(), port, _serve(backends, port, "--door", "asgi")))
    if "library" in doors:
        port = free_port()
        command = [str(PYTHON), str(BENCH / "library.py"), "--port", str(port), "--api-key", KEY, *_named(backends)]
        found.append(Contestant("library", f"`Router` under plain uvicorn: {_EVERYTHING}", solar(), port, command))
    return found


def _solar_twice(backends: tuple[int, int]) -> Contestant:
    port = free_port()
    one, other = (shlex.join(_serve(backends, port, "--reuse-port", data=data)) for data in ("one", "other"))
    what = f"two processes of `solar serve --reuse-port`, each: {_EVERYTHING}"
    return Contestant("solar-2", what, solar(), port, ["sh", "-c", f"{one} & {other} & wait"], processes=2)


def _serve(backends: tuple[int, int], port: int, *more: str, data: str = "data", records: bool = False) -> list[str]:
    kept = () if records else ("--request-log-days", "0")
    solar = [str(PYTHON.parent / "solar"), "serve", "--port", str(port), "--api-key", KEY, "--data-dir", data]
    return [*solar, *_named(backends), *kept, *more]


def _named(backends: tuple[int, int]) -> list[str]:
    return [part for i, port in enumerate(backends) for part in ("--backend", f"b{i}={_root(port)}")]


# --- peers


def _litellm(version: str, backends: tuple[int, int]) -> Contestant:
    port = free_port()
    models = [
        {"model_name": "bench", "litellm_params": {"model": "openai/bench", "api_base": _url(b), "api_key": "upstream"}}
        for b in backends
    ]
    config = {
        "model_list": models,
        "router_settings": {"routing_strategy": "least-busy"},
        "general_settings": {"master_key": f"sk-{KEY}"},
    }
    room = PEERS / "litellm" / "bin"
    return Contestant(
        "litellm",
        "LiteLLM proxy, one worker, least-busy, master key, no database",
        version,
        port,
        [str(room / "litellm"), "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)],
        {"config.yaml": json.dumps(config)},  # JSON is YAML
        headers=(f"authorization: Bearer sk-{KEY}",),
        environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": f"{room}:{os.environ['PATH']}"},
        patience=120.0,
    )


def _sglang(version: str, backends: tuple[int, int]) -> Contestant:
    port = free_port()
    command = [str(PEERS / "sglang-router" / "bin" / "python"), "-m", "sglang_router.launch_router"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin", "--log-level", "warn"]
    command += ["--prometheus-port", str(free_port()), "--worker-urls", *(_root(b) for b in backends)]
    return Contestant("sglang-router", "round robin, no key check", version, port, command, patience=60.0)


def _vllm(version: str, backends: tuple[int, int]) -> Contestant:
    port = free_port()
    command = [str(PEERS / "vllm-router" / "bin" / "vllm-router")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin", "--log-level", "warning"]
    command += ["--prometheus-port", str(free_port()), "--worker-urls", *(_root(b) for b in backends)]
    return Contestant("vllm-router", "round robin, no key check", version, port, command, patience=60.0)


def _portkey(version: str, backends: tuple[int, int]) -> Contestant:
    port = free_port()
    targets = [{"provider": "openai", "custom_host": _url(b), "api_key": "upstream"} for b in backends]
    config = json.dumps({"strategy": {"mode": "loadbalance"}, "targets": targets}, separators=(",", ":"))
    return Contestant(
        "portkey",
        "@portkey-ai/gateway, loadbalance over two custom hosts, no key check",
        version,
        port,
        [
            program("node") or "node",
            str(PEERS / "portkey" / "node_modules" / NODE_PEER / "build" / "start-server.js"),
            f"--port={port}",
            "--headless",
        ],
        headers=(f"x-portkey-config: {config}",),
        environment={"TRUSTED_CUSTOM_HOSTS": "127.0.0.1", "NODE_ENV": "production"},
        patience=60.0,
    )


def _root(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1"
