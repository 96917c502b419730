"""Encryption at rest: AES-256-GCM with keys from a file of mode 0600.

A value is bound to its key in the store (the additional data), so that one secret's bytes can't be put in another's place.
The file holds one key a line, base64, the newest first: the first encrypts, all decrypt, so a key is rotated by putting
a new line on top and writing every secret again.
"""

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kubelite.auth import pki

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: What an encrypted value starts with; the hexadecimal name of its key follows, then nonce and ciphertext.
PREFIX = b"k8s:enc:kubelite:v1:"
_NONCE_BYTES = 12
_NAME_BYTES = 8


class DecryptionError(ValueError):
    """A stored value can't be decrypted: the key file is another one, or the bytes are damaged."""


class Encryptor:
    """Encrypts and decrypts values. Safe to share; holds nothing but the keys."""

    def __init__(self, keys: list[bytes]) -> None:
        self._keys = {_name(key): key for key in keys}
        self._newest = _name(keys[0])
        self._ciphers: dict[bytes, AESGCM] = {}

    @classmethod
    def load_or_create(cls, path: Path | str) -> "Encryptor":
        """With the keys of a file, made with one random key where there is none.

        Raises:
            DecryptionError: the file is not what it should be, or may be read by others.
        """
        path = Path(path)
        if not path.exists():
            pki.write_private(path, base64.b64encode(os.urandom(32)) + b"\n")
        if path.stat().st_mode & 0o077:
            raise DecryptionError(f"{path} may be read by others: run chmod 600 on it and rotate the key")
        try:
            keys = [base64.b64decode(line, validate=True) for line in path.read_bytes().split()]
        except binascii.Error as error:
            raise DecryptionError(f"{path} must hold one base64 key a line") from error
        if not keys or any(len(key) != 32 for key in keys):
            raise DecryptionError(f"{path} must hold keys of 32 bytes, base64, one a line")
        return cls(keys)

    def encrypt(self, value: bytes, key: str) -> bytes:
        """The encrypted form of a value that is stored under `key`."""
        nonce = os.urandom(_NONCE_BYTES)
        return PREFIX + self._newest + b":" + nonce + self._cipher(self._newest).encrypt(nonce, value, key.encode())

    def decrypt(self, value: bytes, key: str) -> bytes:
        """The value that was stored under `key`; what is not encrypted is returned as it is (written before encryption).

        Raises:
            DecryptionError: no key of the file fits, or the value was made for another key of the store.
        """
        from cryptography.exceptions import InvalidTag

        if not value.startswith(PREFIX):
            return value
        name, rest = value[len(PREFIX) : len(PREFIX) + _NAME_BYTES], value[len(PREFIX) + _NAME_BYTES + 1 :]
        if name not in self._keys:
            raise DecryptionError(
                f"{key}: encrypted with key {name.decode(errors='replace')}, which the key file lacks: restore it"
            )
        try:
            return self._cipher(name).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], key.encode())
        except (InvalidTag, ValueError) as error:
            raise DecryptionError(f"{key}: the stored value is damaged or belongs to another key") from error

    def _cipher(self, name: bytes) -> "AESGCM":
        """The cipher of a key, made when it is first used: a start without secrets doesn't wait for the import."""
        cipher = self._ciphers.get(name)
        if cipher is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            cipher = self._ciphers[name] = AESGCM(self._keys[name])
        return cipher


def _name(key: bytes) -> bytes:
    """A name for a key that says nothing about it: the start of a hash."""
    import hashlib

    return hashlib.sha256(b"kubelite key name" + key).hexdigest()[:_NAME_BYTES].encode()
