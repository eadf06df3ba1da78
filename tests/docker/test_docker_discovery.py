"""What runs in a real Docker Engine is found, for what it is and at an address that works."""

from asyncio import to_thread

from engine import Engine, free_port
from found import finding, named, until
from images import LLAMA_OLD, MODEL_ID, VLLM, Image

from solar.discovery.docker.images import ImageRule

# Found by what


async def test_a_llama_server_is_found_by_its_image_and_chats(engine: Engine, llama: Image) -> None:
    async with finding(engine) as found:
        await to_thread(llama, options=named("one"))
        await found.becomes("one")
        assert found.models("one") == [MODEL_ID]
        assert found.healthy["one"].type == "llamacpp"
        assert await found.chat(MODEL_ID) == 200


async def test_what_ran_before_is_found_and_an_old_name_of_the_image_is_known(engine: Engine, llama: Image) -> None:
    llama(options=named("old"), name=LLAMA_OLD)
    async with finding(engine) as found:
        await found.becomes("old")
        assert await found.chat(MODEL_ID) == 200


async def test_a_label_names_what_no_image_does(engine: Engine, fake: Image) -> None:
    fake("--models", "a", "--port", "9000", options=named("labelled", "--label", "solar.enable=true"))
    fake("--models", "b", options=named("theirs", "--label", "oairouter.enabled=true"))
    fake("--models", "c", options=named("nobody"))
    async with finding(engine) as found:
        await found.becomes("labelled", "theirs")
        assert found.url("labelled").endswith(":9000")
        assert [await found.chat(model) for model in ("a", "b", "c")] == [200, 200, 404]


async def test_a_label_leaves_a_known_image_out(engine: Engine, vllm: Image) -> None:
    vllm("--models", "a", options=named("in"))
    vllm("--models", "b", options=named("out", "--label", "solar.enable=false"))
    async with finding(engine) as found:
        await found.becomes("in")


async def test_a_rule_of_ones_own_makes_an_image_known(engine: Engine, fake: Image) -> None:
    fake("--models", "a", "--port", "7000", options=named("mine"))
    async with finding(engine, image_rules=[ImageRule("local/fake*", "generic", 7000)]) as found:
        await found.becomes("mine")
        assert await found.chat("a") == 200


async def test_the_engine_is_what_it_says_and_not_what_its_image_is_called(engine: Engine, fake: Image) -> None:
    engine.docker("tag", fake.name, VLLM)
    fake("--kind", "ollama", "--models", "a", options=named("one"), name=VLLM)
    async with finding(engine) as found:
        await found.becomes("one")
        assert found.healthy["one"].type == "ollama"


# Reached where


async def test_its_own_address_is_used_where_no_port_is_published(engine: Engine, vllm: Image) -> None:
    container = vllm("--models", "a", options=named("one"))
    async with finding(engine) as found:
        await found.becomes("one")
        assert found.url("one") == f"http://{engine.address(container)}:8000"


async def test_fixed_and_random_published_ports_lead_to_the_right_container(engine: Engine, vllm: Image) -> None:
    vllm("--models", "a", options=named("fixed", "--publish", f"127.0.0.1:{free_port()}:8000"))
    vllm("--models", "b", options=named("random", "--publish-all"))
    async with finding(engine) as found:
        await found.becomes("fixed", "random")
        assert (found.models("fixed"), found.models("random")) == (["a"], ["b"])
        assert [await found.chat("a"), await found.chat("b")] == [200, 200]


async def test_one_on_the_network_of_the_host_is_reached_by_loopback(engine: Engine, vllm: Image) -> None:
    port = free_port()
    vllm("--models", "a", "--port", str(port), options=named("host", "--network", "host"))
    async with finding(engine) as found:
        await found.becomes("host")
        assert found.url("host") == f"http://127.0.0.1:{port}"


async def test_one_in_the_network_of_another_is_followed(engine: Engine, vllm: Image, fake: Image) -> None:
    fake("--port", "9000", options=named("home"))
    vllm("--models", "a", options=named("guest", "--network", "container:home"))
    async with finding(engine) as found:
        await found.becomes("guest")
        assert found.url("guest") == f"http://{engine.address('home')}:8000"


async def test_it_is_found_anew_when_its_network_changes(engine: Engine, vllm: Image) -> None:
    engine.docker("network", "create", "ours")
    vllm("--models", "a", options=named("moved"))
    async with finding(engine) as found:
        await found.becomes("moved")
        before = found.url("moved")
        await to_thread(engine.docker, "network", "connect", "ours", "moved")
        await to_thread(engine.docker, "network", "disconnect", "bridge", "moved")
        address = f"http://{engine.address('moved', 'ours')}:8000"
        await until(lambda: found.healthy and found.url("moved") == address != before, lambda: repr(found))
        assert await found.chat("a") == 200


async def test_two_of_one_image_are_two_backends(engine: Engine, llama: Image) -> None:
    for name in ("left", "right"):
        llama("--alias", name, options=named(name, "--publish", "127.0.0.1::8080"))
    async with finding(engine) as found:
        await found.becomes("left", "right")
        assert [await found.chat("left"), await found.chat("right")] == [200, 200]
