import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from gateway_process import TLS

from solar.cli.group import solar
from solar.control.certificate import Certificate, read_certificate
from solar.control.checkup import diagnose_certificate
from solar.control.configuration import load
from solar.errors import InvalidSettings

DAY = 86_400.0


def read(cert: Path, key: Path) -> Certificate:
    return read_certificate(cert, key, "--tls-cert", "--tls-key")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with every file that may be named."""
    shutil.copytree(TLS, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    server = (TLS / "server.pem").read_text()
    (tmp_path / "damaged.pem").write_text(server.replace(server.splitlines()[2], "A" * 64))
    key = (TLS / "server.key").read_text()
    (tmp_path / "damaged.key").write_text(key.replace(key.splitlines()[1], "A" * 64))
    (tmp_path / "server.der").write_bytes(ssl.PEM_cert_to_DER_cert(server))
    (tmp_path / "folder").mkdir()
    (tmp_path / "both.pem").write_text(key + server)
    return tmp_path


@pytest.mark.parametrize(
    ("cert", "key", "words"),
    [
        ("gone.pem", "server.key", "--tls-cert: cannot read gone.pem: no such file or directory"),
        ("server.pem", "gone.key", "--tls-key: cannot read gone.key: no such file or directory"),
        ("folder", "server.key", "--tls-cert: cannot read folder: it is no file"),
        ("server.pem", "/dev/null", "--tls-key: cannot read /dev/null: it is no file"),
        ("server.der", "server.key", "--tls-cert: server.der holds no certificate; name a PEM file"),
        ("server.pem", "server.der", "--tls-key: server.der holds no private key; name a PEM file"),
        ("server.key", "server.pem", "--tls-cert: server.key holds no certificate; name a PEM file"),
        ("damaged.pem", "server.key", "--tls-cert: damaged.pem is damaged"),
        ("server.pem", "damaged.key", "--tls-key: cannot use damaged.key with server.pem: it is damaged"),
        ("server.pem", "chain.key", "--tls-key: chain.key is not the key of the certificate in server.pem"),
        ("server.pem", "rsa.key", "--tls-key: rsa.key is not the key of the certificate in server.pem"),
        ("chain.pem", "encrypted.key", "--tls-key: encrypted.key is encrypted, and nobody is there to be asked"),
        ("server.pem", None, "--tls-cert: the key is missing; name its file with tls_key or --tls-key"),
        (None, "server.key", "--tls-key: the certificate is missing; name its file with tls_cert or --tls-cert"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "doctor"])
@pytest.mark.usefixtures("files")
def test_wrong_files_are_one_sentence(command: str, cert: str | None, key: str | None, words: str) -> None:
    flags = [f"--tls-cert={cert}"] * (cert is not None) + [f"--tls-key={key}"] * (key is not None)
    result = CliRunner().invoke(solar, [command, "--port", "0", *flags], prog_name="solar")
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {words}")
    assert result.output.count("\n") == 1


def test_check_config_says_the_same(files: Path) -> None:
    (files / "sub").mkdir()
    (files / "sub" / "solar.toml").write_text('[server]\ntls_cert = "../server.pem"\ntls_key = "../chain.key"\n')
    result = CliRunner().invoke(solar, ["check-config", "sub/solar.toml"])
    assert result.exit_code == 1
    assert "solar.toml: [server] tls_key: " in result.output
    assert "chain.key is not the key of the certificate in " in result.output


def test_a_file_that_may_not_be_read_is_named(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(InvalidSettings, match=r"^--tls-cert: cannot read .*: permission denied$"):
        read(files / "server.pem", files / "server.key")


@pytest.mark.parametrize(
    ("flags", "environ"),
    [
        ({"tls_cert": "server.pem", "tls_key": "server.key"}, {}),
        ({"tls_cert": "both.pem", "tls_key": "both.pem"}, {}),
        ({}, {"SOLAR_TLS_CERT": "chain.pem", "SOLAR_TLS_KEY": "chain.key"}),
    ],
)
def test_a_pair_may_be_named_anywhere_and_be_one_file(flags: Any, environ: dict[str, str], files: Path) -> None:
    certificate = load(flags, environ, files).certificate
    assert certificate is not None
    assert (certificate.flaw, certificate.context.minimum_version) == ("", ssl.TLSVersion.TLSv1_2)


def test_without_files_there_is_no_certificate(tmp_path: Path) -> None:
    assert load({}, {}, tmp_path).certificate is None


def test_a_key_that_everyone_can_read_is_warned_of(files: Path) -> None:
    (files / "server.key").chmod(0o644)
    (warning,) = read(files / "server.pem", files / "server.key").warnings
    assert warning.endswith(f"close it with: chmod 600 {files / 'server.key'}")
    (files / "server.key").chmod(0o600)
    assert read(files / "server.pem", files / "server.key").warnings == ()


def test_an_expired_certificate_is_served_with_a_warning(files: Path) -> None:
    (files / "chain.key").chmod(0o600)
    certificate = read(files / "expired.pem", files / "chain.key")
    cert = files / "expired.pem"
    assert certificate.warnings == (f"clients refuse the certificate in {cert}: certificate has expired",)
    found = diagnose_certificate(certificate, 0.0)
    assert (found.well, found.found) == (False, f"clients refuse the one in {cert}: certificate has expired")


@pytest.mark.parametrize(("days", "words"), [(13.5, "2126-10-28, 13 days from now"), (15.0, "2126-10-28")])
def test_doctor_says_when_a_certificate_expires_soon(days: float, words: str) -> None:
    certificate = read(TLS / "server.pem", TLS / "server.key")
    assert certificate.expires is not None
    found = diagnose_certificate(certificate, certificate.expires - days * DAY)
    assert (found.well, found.found) == (True, f"{TLS / 'server.pem'} is valid until {words}")
    assert bool(found.advice) == (days < 14)
