"""Who is measured, and how each is started: one process or one worker, keep-alive to two backends, nothing exotic."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from _setup import BENCH, NODE_PEER, PEERS, PEERS_FOUND, PYTHON, ROOT, program

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

    def write_files(self, folder: Path) -> None:
        """What its command reads."""
        for name, text in self.files.items():
            (folder / name).write_text(text)


def free_port() -> int:
    """A port of the loopback that nobody uses now, outside of those that outgoing connections take."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in range(low - 1, 1024, -1):
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
    backends: tuple[int, int], *, doors: Iterable[str], peers: bool, room: int = CLIENTS
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
    found += _ours(backends, set(doors))
    if peers:
        versions = json.loads(PEERS_FOUND.read_text())
        makers = {"litellm": _litellm, "sglang-router": _sglang, "vllm-router": _vllm, "portkey": _portkey}
        for name, maker in makers.items():
            if name in versions:
                found.append(maker(versions[name], backends))
            else:
                absent[name] = "could not be installed"
    return found, absent


# --- the two that set the scale


def _nginx(where: str, backends: tuple[int, int], room: int) -> Contestant:
    port = free_port()
    servers = "\n".join(f"    server 127.0.0.1:{backend};" for backend in backends)
    # Two connections a client, and some: with few left nginx drops clients that have not spoken yet.
    # Requests are held whole in memory, as a router that reads their model must; answers are not buffered.
    text = f"""\
daemon off;
{"user root;" if os.geteuid() == 0 else ""}
worker_processes 1;
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
    listen 127.0.0.1:{port} backlog=4096;
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
    return Contestant(
        "nginx",
        "one worker, least_conn, upstream keep-alive, proxy_buffering off, access log off, no key check",
        _said([where, "-v"], r"nginx/(\S+)"),
        port,
        [where, "-p", ".", "-c", "nginx.conf", "-e", "stderr"],
        {"nginx.conf": text},
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
        _said([where, "-v"], r"version (\d[\d.]*)"),
        port,
        [where, "-db", "-f", "haproxy.cfg"],
        {"haproxy.cfg": text},
    )


# --- ours


def _ours(backends: tuple[int, int], doors: set[str]) -> list[Contestant]:
    solar = str(PYTHON.parent / "solar")
    commit = _said(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"], r"(\S+)")
    version = _said([str(PYTHON), "-c", "import importlib.metadata as m; print(m.version('solar-control'))"], r"(\S+)")
    version = f"{version} ({commit})"
    named = [part for i, port in enumerate(backends) for part in ("--backend", f"b{i}=http://127.0.0.1:{port}")]
    # Without the option there is one door only.
    has_doors = "--door" in _said([solar, "serve", "--help"], r"(--door)\b")
    found: list[Contestant] = []

    def serve(name: str, what: str, *more: str) -> None:
        port = free_port()
        command = [solar, "serve", "--port", str(port), "--api-key", KEY, "--data-dir", "data", *named, *more]
        found.append(Contestant(name, what, version, port, command))

    everything = "key check, failover, breaker, metrics, one log line a request, usage counted"
    if "default" in doors:
        serve("solar", f"`solar serve`{'' if has_doors else ' (its only door: ASGI)'}: {everything}")
    if "asgi" in doors and has_doors:
        serve("solar-asgi", f"`solar serve --door asgi`: {everything}", "--door", "asgi")
    if "library" in doors:
        port = free_port()
        command = [str(PYTHON), str(BENCH / "library.py"), "--port", str(port), "--api-key", KEY, *named]
        found.append(Contestant("library", f"`Router` under plain uvicorn: {everything}", version, port, command))
    return found


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


def _said(command: list[str], pattern: str) -> str:
    """What a command says of itself, or "?"."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, cwd="/")
    except OSError:
        return "?"
    found = re.search(pattern, ran.stdout + ran.stderr)
    return found[1] if found else "?"
