"""The servers that are compared: a kubelite API server in this process and whatever a kubeconfig names."""

import base64
import contextlib
import http.client
import json
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import yaml

from kubelite.client.http import HttpClient


@dataclass(frozen=True)
class Answer:
    """What came back: `body` is the parsed JSON, or the text where it is none; `code` is 0 where nothing came."""

    code: int
    body: Any
    warnings: tuple[str, ...]


class Server:
    """One API server over one connection."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        self._headers = {"Authorization": f"Bearer {user['token']}"} if user.get("token") else {}
        context = ssl.create_default_context(cadata=_pem(cluster, "certificate-authority"))
        with _certificate(user) as file:
            if file:
                context.load_cert_chain(file)
        url = urlsplit(cluster["server"])
        assert url.hostname
        self._connection = http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=60)

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        self._connection.request(method, quote(path, safe="/?&=%,:+()!~*'"), body, {**self._headers, **headers})
        try:
            response = self._connection.getresponse()
        except http.client.RemoteDisconnected:  # what the real server does when it panics; the next request connects again
            self._connection.close()
            return Answer(0, "no answer", ())
        text = response.read().decode(errors="replace")
        warnings = tuple(_warning(value) for value in response.headers.get_all("Warning") or ())
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = text
        return Answer(response.status, parsed, warnings)

    def close(self) -> None:
        self._connection.close()

    def client(self) -> HttpClient:
        """A client for components, as the same user."""
        content = yaml.safe_load(self.kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        ca_pem = _pem(cluster, "certificate-authority").encode()
        with _certificate(user) as file:
            return HttpClient(cluster["server"], ca_pem=ca_pem, token=user.get("token", ""), certificate_file=file)


@contextlib.contextmanager
def _certificate(user: Mapping[str, str]) -> Iterator[str]:
    """A file with the user's certificate and key; empty where it has none."""
    if "client-certificate-data" not in user and "client-certificate" not in user:
        yield ""
        return
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(_pem(user, "client-certificate") + "\n" + _pem(user, "client-key"))
        file.flush()
        yield file.name


def _warning(header: str) -> str:
    """The text of a Warning header: `299 - "text"`."""
    return header.partition('"')[2].removesuffix('"').replace('\\"', '"').replace("\\\\", "\\")


def _pem(section: Mapping[str, str], name: str) -> str:
    data = section.get(f"{name}-data")
    return base64.b64decode(data).decode() if data else Path(section[name]).read_text()


@contextlib.contextmanager
def kubelite(directory: Path) -> Iterator[Server]:
    """An API server alone, as the recorded one was: no controller changes an object between two requests."""
    from kubelite.testing import cluster

    with cluster.running(directory, part="server", disable=frozenset(("scheduler", "controllers"))) as made:
        server = Server(made.kubeconfig)
        try:
            yield server
        finally:
            server.close()


@contextlib.contextmanager
def controlled(directory: Path, manager: str = "") -> Iterator[Path]:
    """The kubeconfig of an API server with kubelite's controllers, or with the real controller manager's, `manager` its file."""
    from kubelite.testing import cluster

    disabled = frozenset(("scheduler", "controllers") if manager else ("scheduler",))
    with cluster.running(directory, part="server", disable=disabled) as made, contextlib.ExitStack() as stack:
        if manager:
            stack.enter_context(_controller_manager(manager, made.kubeconfig, directory))
        yield made.kubeconfig


@contextlib.contextmanager
def _controller_manager(file: str, kubeconfig: Path, directory: Path) -> Iterator[None]:
    pki = directory / "pki"
    words = [
        file,
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        f"--service-account-private-key-file={pki / 'service-account.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        "--use-service-account-credentials=true",
        "--controllers=*,bootstrap-signer-controller,token-cleaner-controller",
        "--allocate-node-cidrs=true",
        "--cluster-cidr=10.244.0.0/16",
        "--kube-api-qps=2000",
        "--kube-api-burst=2000",
        "--secure-port=0",
    ]
    with (directory / "controller-manager.log").open("w") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.terminate()
