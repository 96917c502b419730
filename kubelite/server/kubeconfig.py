"""The administrator's kubeconfig: who holds it can do anything, so it is a file of mode 0600."""

import base64
from pathlib import Path

from kubelite.auth import pki


def write(path: Path, server: str, ca_pem: bytes, client: pki.KeyPair, name: str = "kubelite") -> None:
    """Written whole or not at all, in YAML that needs no writer to be loaded."""
    text = f"""\
apiVersion: v1
kind: Config
clusters:
- name: {name}
  cluster:
    server: {server}
    certificate-authority-data: {_encoded(ca_pem)}
users:
- name: {name}-admin
  user:
    client-certificate-data: {_encoded(client.certificate_pem)}
    client-key-data: {_encoded(client.key_pem)}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {name}-admin
current-context: {name}
"""
    pki.write_private(path, text.encode())


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
