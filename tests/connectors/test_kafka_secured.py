"""The Kafka source against a broker with TLS and SASL, where Java is: rows come; a wrong login is told, not shown."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from connectors.kafka.source import list_topics
from connectors.kafka.topics import create_topics, produce
from control.embedded import ApacheKafka
from flows import build
from flows.ports import free_port
from libcore.errors import ConfigurationError
from tests.connectors.kafka_parts import epochs, partition, source, texts

# conftest.py leaves the module out where there is no Java.
pytestmark = [pytest.mark.real, pytest.mark.slow]

_ROOT = Path(__file__).parents[2]
USER, PASSWORD = "reader", "right=horse;battery"
ENVIRONMENT = "HEADRACE_TEST_PASSWORD"
TOPIC = "secured"
ROWS = 200


def certificate(folder: Path) -> tuple[Path, Path]:
    """(certificate alone, key and certificate) as PEM files: self-signed, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_bytes(pem)
    (folder / "broker.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, none) + pem)
    return folder / "ca.pem", folder / "broker.pem"


class SecuredKafka(ApacheKafka):
    """Apache Kafka whose clients come over TLS with a login; `servers` is a plain listener to fill it through."""

    def __init__(self, key_and_certificate: Path) -> None:
        super().__init__()
        self.secured_port = free_port()
        places = f"PLAINTEXT://127.0.0.1:{self.port},SECURED://127.0.0.1:{self.secured_port}"
        login = "listener.name.secured"
        self._settings = {
            "listeners": f"{places},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": places,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            f"{login}.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
            f"{login}.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            f"{login}.plain.sasl.jaas.config": (
                f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
            ),
            f"{login}.ssl.keystore.type": "PEM",
            f"{login}.ssl.keystore.location": str(key_and_certificate),
        }

    @property
    def secured(self) -> str:
        """What a pipeline writes as its servers."""
        return f"127.0.0.1:{self.secured_port}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the broker's certificate."""
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def kafka(authority: Path) -> Iterator[SecuredKafka]:
    """A secured broker with one user and a filled topic."""
    _, key_and_certificate = certificate(authority)
    with SecuredKafka(key_and_certificate) as broker:
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        admin = AdminClient({"bootstrap.servers": broker.servers})
        for answer in admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(USER, scram, PASSWORD.encode())]
        ).values():
            answer.result(30)
        create_topics(broker.servers, {TOPIC: 1})
        rows = [{"id": number, "status": "OPEN"} for number in range(ROWS)]
        messages = [json.dumps({"before": None, "after": row, "op": "c"}).encode() for row in rows]
        produce(broker.servers, TOPIC, [(b'{"id":%d}' % row["id"], m) for row, m in zip(rows, messages, strict=True)])
        yield broker


def properties(authority: Path, **changed: str) -> dict[str, Any]:
    """The properties of a pipeline that may read."""
    right = {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(authority / "ca.pem"),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": USER,
        "sasl.password": f"env:{ENVIRONMENT}",
    }
    return right | {name.replace("_", "."): value for name, value in changed.items()}


def pipeline(folder: Path, servers: str, given: dict[str, Any]) -> Path:
    """A pipeline file that reads the topic into the null sink."""
    lines = ['name = "secured"', "[source.kafka]", f'servers = "{servers}"', "[source.kafka.properties]"]
    lines += [f'"{name}" = "{value}"' for name, value in given.items()]
    lines += ["[tables.orders]", f'topic = "{TOPIC}"', 'key = ["id"]', "[tables.orders.columns]"]
    lines += ['id = "int64"', 'status = "string"', "[sink.null]", ""]
    file = folder / "secured.toml"
    file.write_text("\n".join(lines), "utf-8")
    return file


def headrace(password: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command as a person runs it."""
    command = [sys.executable, "-m", "control.cli", *map(str, arguments)]
    environment = {**os.environ, ENVIRONMENT: password}
    return subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_rows_come_over_tls_with_a_login(
    kafka: SecuredKafka, authority: Path, reader: str, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reader gets every message through TLS and SASL, with the password from the environment."""
    monkeypatch.setenv(ENVIRONMENT, PASSWORD)
    given = properties(authority, sasl_mechanism=mechanism)
    made = source(kafka.secured, [TOPIC], reader=reader, until_end=True, properties=given)
    with partition(made, f"{TOPIC}/0") as part:
        assert len([text for items, _ in epochs(part) for text in texts(items)]) == ROWS


def test_a_pipeline_file_reads_with_the_password_from_a_file(
    kafka: SecuredKafka, authority: Path, tmp_path: Path
) -> None:
    """`headrace check --connect` and `run` need no more than the properties and a reference to the password."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n", "utf-8")
    file = pipeline(tmp_path, kafka.secured, properties(authority, sasl_password=f"file:{secret}"))
    assert headrace("unused", "check", file, "--connect").returncode == 0
    done = headrace("unused", "run", file, "--until-end")
    assert done.returncode == 0 and f"{ROWS} rows applied" in done.stderr, done.stderr
    kept = [path.read_bytes() for path in (tmp_path / "var").rglob("*") if path.is_file()]
    assert kept and not any(PASSWORD.encode() in data for data in kept)


def test_a_wrong_password_is_told_and_not_shown(kafka: SecuredKafka, authority: Path, tmp_path: Path) -> None:
    """A refused login ends check and run with 78, names the settings to look at, and nowhere holds the password."""
    wrong = "wrong-donkey-staple"
    file = pipeline(tmp_path, kafka.secured, properties(authority))
    for arguments in (("check", file, "--connect"), ("run", file, "--until-end")):
        found = headrace(wrong, *arguments)
        assert found.returncode == 78, found.stderr
        assert "uthentication failed" in found.stderr and "sasl.*" in found.stderr and kafka.secured in found.stderr
        assert wrong not in found.stdout + found.stderr
    kept = [path.read_bytes() for path in (tmp_path / "var").rglob("*") if path.is_file()]
    assert kept and not any(wrong.encode() in data for data in kept)


def test_a_certificate_of_somebody_else_is_refused(
    kafka: SecuredKafka, authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker whose certificate the pipeline's authority did not sign is no broker: nothing is sent to it."""
    monkeypatch.setenv(ENVIRONMENT, PASSWORD)
    other, _ = certificate(tmp_path / "other")
    file = pipeline(tmp_path, kafka.secured, properties(authority, ssl_ca_location=str(other)))
    with pytest.raises(ConfigurationError, match=r"certificate verify failed.*check security\.protocol"):
        list_topics(build.load(str(file)).source.kafka)


def test_a_missing_password_is_named(kafka: SecuredKafka, authority: Path, tmp_path: Path) -> None:
    """A reference to a variable that is not set is a configuration error that names property and variable."""
    file = pipeline(tmp_path, kafka.secured, properties(authority, sasl_password="env:HEADRACE_NOT_THERE"))
    with pytest.raises(ConfigurationError, match=r"sasl\.password: env:HEADRACE_NOT_THERE"):
        list_topics(build.load(str(file)).source.kafka)
