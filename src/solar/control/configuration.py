"""What the gateway runs with, and who said so: flag, then environment, then .env, then solar.toml, then default."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solar.config.fields import nearest
from solar.config.files import Stamp
from solar.control.certificate import Certificate, read_certificate
from solar.control.configfile import ConfigFile, read_config
from solar.control.settings import BACKENDS, CONFIG, SERVER, SETTINGS, Setting, Settings
from solar.control.words import Source, source_of
from solar.core.backend import Backend, parse_url
from solar.discovery.docker.images import ImageRule
from solar.errors import InvalidBackend, InvalidSettings

_NAMED_URL = re.compile(r"([\w.@+-]+)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that `solar serve` was told."""

    settings: Settings
    said_by: Mapping[str, str]  # the name of a setting -> where it was written; what is absent has its default
    named: tuple[Backend, ...]  # by flags or the environment: a reload leaves them alone
    file: ConfigFile | None
    certificate: Certificate | None  # that clients see; None: plain HTTP
    sources: Sources = field(repr=False)

    @property
    def backends(self) -> tuple[Backend, ...]:
        """All of them."""
        return (*self.named, *(self.file.backends if self.file else ()))

    @property
    def discover(self) -> tuple[Source, ...]:
        """Where to look for more."""
        where = self.said_by.get("discover", "")
        return tuple(dict.fromkeys(source_of(word, where) for word in self.settings.discover))

    @property
    def image_rules(self) -> tuple[ImageRule, ...]:
        """Which images are engines, beside those that are known to be."""
        return self.file.image_rules if self.file else ()

    @property
    def read(self) -> tuple[Path, ...]:
        """The files that a running gateway follows."""
        certificate = (self.certificate.cert, self.certificate.key) if self.certificate else ()
        return (*(self.file.read if self.file else ()), *certificate)

    @property
    def stamp(self) -> Stamp:
        """Of those, as they were read."""
        return (*(self.file.stamp if self.file else ()), *(self.certificate.stamp if self.certificate else ()))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the owner should know, and need not be stopped for."""
        certificate = self.certificate.warnings if self.certificate else ()
        return (*(self.file.warnings if self.file else ()), *certificate)

    def read_again(self) -> Configuration:
        """The same flags and variables over what the files hold now. Raises InvalidSettings."""
        return self.sources.combine(self.file.path if self.file else None)


@dataclass(frozen=True, slots=True)
class Written:
    """A value as it was found, and where."""

    value: Any
    where: str


@dataclass(frozen=True, slots=True)
class Sources:
    """Where settings come from besides the file: fixed for the life of a process."""

    flags: Mapping[str, Any]  # the name of a setting -> its value; only those that were given
    variables: tuple[tuple[str, Mapping[str, str]], ...]  # (how to call it, what it holds), the first one wins

    def find(self, setting: Setting) -> Written | None:
        """The value of `setting`, unconverted."""
        if setting.name in self.flags:
            return Written(self.flags[setting.name], setting.flag)
        for variable in (setting.variable, setting.plain):
            for called, held in self.variables:
                if (
                    variable and (text := held.get(variable, "")).strip()
                ):  # an empty variable is the usual way to say that there is none
                    return Written(setting.parts(text, variable), f"{variable}{called}")
        return None

    def combine(self, path: Path | None) -> Configuration:
        """These sources over the file at `path`."""
        file = read_config(path) if path else None
        values: dict[str, Any] = {}
        said_by: dict[str, str] = {}
        for setting in SERVER:
            found = self.find(setting)
            if found is not None:
                values[setting.name] = setting.field.convert(found.value, found.where, text=True)
                said_by[setting.name] = found.where
            elif file is not None and setting.name in file.server:
                values[setting.name] = setting.field.convert(file.server[setting.name], f"{path}: {setting.key}")
                said_by[setting.name] = f"{path}: {setting.key}"
        settings = Settings(**values)
        named = _named_backends(self.find(BACKENDS))
        _check(settings, said_by, named, file)
        return Configuration(settings, said_by, named, file, _certificate(settings, said_by), self)


def load(flags: Mapping[str, Any], environ: Mapping[str, str], directory: Path) -> Configuration:
    """Read every source; `directory` is where `.env` and `solar.toml` are looked for.

    Raises InvalidSettings, with where the mistake stands and what to write.
    """
    sources = Sources(flags, (("", environ), (" in .env", _dotenv(directory / ".env"))))
    told = sources.find(CONFIG)
    if told is not None:
        return sources.combine(directory / Path(told.value).expanduser())
    usual = directory / "solar.toml"
    return sources.combine(usual if usual.exists() else None)


def backend_from(text: str, where: str) -> Backend:
    """The backend that `NAME=URL` or `URL` means. Raises InvalidSettings."""
    named = _NAMED_URL.fullmatch(text.strip())
    name, url = named.groups() if named else (None, text.strip())
    try:
        return Backend(name or _name_of(url), url)
    except InvalidBackend as error:
        raise InvalidSettings(f"{where}: {error.message}") from None


def changed(before: Configuration, after: Configuration) -> tuple[str, ...]:
    """The settings that differ and need a restart: another certificate does not, a first or none does."""
    followed = ("tls_cert", "tls_key") if before.settings.tls_cert and after.settings.tls_cert else ()
    names = (setting.name for setting in SERVER if setting.name not in followed)
    differ = tuple(name for name in names if getattr(before.settings, name) != getattr(after.settings, name))
    return differ if before.image_rules == after.image_rules else (*differ, "image_rules")


def _name_of(url: str) -> str:
    origin, path = parse_url(url, url)
    words = (origin.hostname, str(origin.port), path.removesuffix("/v1"))
    return "-".join(word for part in words if (word := re.sub(r"[^\w.]+", "-", part).strip("-")))


def _named_backends(found: Written | None) -> tuple[Backend, ...]:
    if found is None:
        return ()
    backends = tuple(backend_from(text, found.where) for text in found.value)
    if twice := _twice(backend.id for backend in backends):
        raise InvalidSettings(f"{found.where}: two backends are called {twice!r}; name them: one=URL other=URL")
    return backends


def _check(settings: Settings, said_by: Mapping[str, str], named: tuple[Backend, ...], file: ConfigFile | None) -> None:
    """What one value alone cannot tell."""
    ids = [backend.id for backend in (*named, *(file.backends if file else ()))]
    if file is not None and (twice := _twice(ids)):
        raise InvalidSettings(f"{file.path}: [[backends]]: the name {twice!r} is taken by a flag or a variable")
    for word in settings.discover:
        source_of(word, said_by["discover"])
    default = settings.default_backend
    if default is not None and default not in ids and not settings.discover:  # one that is found may bear the name
        known = ", ".join(ids) or "none"
        raise InvalidSettings(
            f"{said_by['default_backend']}: there is no backend {default!r}{nearest(default, ids)} (known: {known})"
        )
    for key in settings.api_keys:
        if not key.strip() or not (key.isascii() and key.isprintable()):
            raise InvalidSettings(f"{said_by['api_keys']}: a key must be printable ASCII on one line, and not empty")


def _certificate(settings: Settings, said_by: Mapping[str, str]) -> Certificate | None:
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        given, absent, word = ("tls_key", "tls_cert", "certificate") if cert is None else ("tls_cert", "tls_key", "key")
        flag = next(setting.flag for setting in SERVER if setting.name == absent)
        raise InvalidSettings(f"{said_by[given]}: the {word} is missing; name its file with {absent} or {flag}")
    paths = (Path(cert).expanduser(), Path(key).expanduser())
    return read_certificate(*paths, said_by["tls_cert"], said_by["tls_key"])


def _twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _dotenv(path: Path) -> Mapping[str, str]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values  # only where there is a file: every start would pay for it

    try:
        # As it stands: a key may hold `$`.
        held = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"cannot read {path}: {error}") from None
    known = {name for setting in SETTINGS for name in (setting.variable, setting.plain)}
    return {name: value for name, value in held.items() if value is not None and name in known}
