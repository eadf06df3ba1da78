import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from gateway_process import Gateway, clean_environment
from managing import AGENT_KEY, GATEWAY_KEY, Commands
from terminal import on_terminal

from solar.testing import FakeAgent, FakeBackend, faults

Start = Callable[..., Gateway]
CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.fixture
async def engine() -> AsyncIterator[FakeBackend]:
    async with FakeBackend(["m"], tokens=3) as fake:
        yield fake


@pytest.fixture
async def solar(gateway: Start, engine: FakeBackend) -> Commands:
    flags = ("--port", "0", "--health-check-interval", "0.1", "--backend", f"studio={engine.url}")

    def started() -> Commands:
        return Commands(gateway(*flags, env={"SOLAR_API_KEY": GATEWAY_KEY}))

    return await asyncio.to_thread(started)


async def test_a_conversation_remembers_what_was_said_until_ctrl_d(solar: Commands, engine: FakeBackend) -> None:
    with on_terminal("chat", "m", env=solar.env) as terminal:
        at = await terminal.shows("> ")
        terminal.type("first\n")
        at = await terminal.shows("> ", after=at)
        terminal.type("second\n")
        at = await terminal.shows("> ", after=at)
        terminal.type(CTRL_D)
        assert await terminal.ended() == 0
    messages = json.loads(engine.inference[1].body)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"]
    assert messages[1]["content"] in terminal.text


async def test_ctrl_c_ends_an_answer_and_then_the_program(solar: Commands, engine: FakeBackend) -> None:
    engine.script(faults.stall_after(2))
    with on_terminal("chat", "m", env=solar.env) as terminal:
        at = await terminal.shows("> ")
        terminal.type("go on for ever\n")
        await engine.wait_for(lambda: engine.in_flight == 1)
        terminal.type(CTRL_C)
        at = await terminal.shows("> ", after=at)
        await engine.wait_for(lambda: engine.in_flight == 0)
        terminal.type("no")
        await terminal.shows("no", after=at)  # the prompt reads, and does not only stand there
        terminal.type(CTRL_C)
        assert await terminal.ended() == 130
    assert "Traceback" not in terminal.text


async def test_an_agent_s_key_is_asked_for_and_not_shown(solar: Commands) -> None:
    async with FakeAgent(api_key=AGENT_KEY) as agent:
        with on_terminal("hosts", "add", "studio", agent.url, env=solar.env) as terminal:
            await terminal.shows("Key of studio: ")
            terminal.type(f"{AGENT_KEY}\n")
            await terminal.shows("Host 'studio' registered successfully; it is online")
            assert await terminal.ended() == 0
    assert AGENT_KEY not in terminal.shown


async def test_a_start_shows_how_long_it_takes_and_what_the_engine_says(solar: Commands) -> None:
    async with FakeAgent(api_key=AGENT_KEY) as agent:
        agent.lifecycle.loading = True
        instance = await agent.add("llama:8b", start=False)
        await solar.register(agent)
        with on_terminal("instances", "start", "llama:8b", env=solar.env, columns=120) as terminal:
            await terminal.shows("starting llama:8b on studio: ")
            await terminal.shows("load_model: loading model")
            assert "0:00:0" in terminal.text
            agent.loaded(instance)
            await terminal.shows("Started llama:8b on studio: requests reach it")
            assert await terminal.ended() == 0


async def test_the_status_is_shown_anew_until_ctrl_c(solar: Commands, engine: FakeBackend) -> None:
    with on_terminal("status", "--every", "0.1", env=solar.env) as terminal:
        await terminal.shows("1 of 1 backends healthy")
        engine.die()
        await terminal.shows("0 of 1 backends healthy")
        terminal.type(CTRL_C)
        assert await terminal.ended() == 0


async def test_what_is_removed_is_asked_about(solar: Commands) -> None:
    async with FakeAgent(api_key=AGENT_KEY) as agent:
        await solar.register(agent)
        with on_terminal("hosts", "rm", "studio", env=solar.env) as terminal:
            await terminal.shows("Forget studio at ")
            terminal.type("n\n")
            assert await terminal.ended() == 1
        assert len((await solar.json("hosts", "list"))["hosts"]) == 1


async def test_without_colours_there_are_none(solar: Commands) -> None:
    with on_terminal("status", "--once", env={**solar.env, "NO_COLOR": "1"}) as terminal:
        await terminal.shows("1 of 1 backends healthy")
        assert await terminal.ended() == 0
    assert "\x1b[3" not in terminal.shown


async def test_a_narrow_terminal_is_not_overrun_and_nothing_is_left_out(solar: Commands) -> None:
    with on_terminal("status", "--once", env=solar.env, columns=50) as terminal:
        assert await terminal.ended() == 0
    assert max(map(len, terminal.text.splitlines())) <= 50
    assert "…" not in terminal.text


class Thinker(BaseHTTPRequestHandler):
    """Answers every question with a thought, and then an answer."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for delta in ({"reasoning_content": "let me think"}, {"content": "42"}):
            self.wfile.write(b"data: %b\n\n" % json.dumps({"choices": [{"delta": delta}]}).encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        """Nothing."""


async def test_what_a_model_thinks_is_dim_on_a_terminal_and_left_out_of_a_pipe() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Thinker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env = {**clean_environment(), "SOLAR_URL": f"http://127.0.0.1:{server.server_port}"}
        with on_terminal("chat", "m", "what?", env=env) as terminal:
            assert await terminal.ended() == 0
        command = [sys.executable, "-m", "solar", "chat", "m", "what?"]
        piped = await asyncio.to_thread(subprocess.check_output, command, env=env)
        server.shutdown()
    assert "\x1b[2mlet me think\x1b[0m" in terminal.shown
    assert terminal.text == "let me think\n\n42\n"
    assert piped == b"42\n"
