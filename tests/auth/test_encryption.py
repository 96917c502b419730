import base64
import os
from pathlib import Path

import pytest

from kubelite.auth.encryption import DecryptionError, Encryptor


def test_a_value_is_unreadable_without_the_key_and_bound_to_its_place(tmp_path: Path) -> None:
    encryptor = Encryptor.load_or_create(tmp_path / "key")
    stored = encryptor.encrypt(b"password", "/secrets/ns/a")
    assert b"password" not in stored
    assert Encryptor.load_or_create(tmp_path / "key").decrypt(stored, "/secrets/ns/a") == b"password"
    with pytest.raises(DecryptionError):
        encryptor.decrypt(stored, "/secrets/ns/b")
    with pytest.raises(DecryptionError):
        encryptor.decrypt(stored[:-1], "/secrets/ns/a")
    with pytest.raises(DecryptionError, match="key file lacks"):
        Encryptor.load_or_create(tmp_path / "other").decrypt(stored, "/secrets/ns/a")
    assert encryptor.decrypt(b'{"plain": 1}', "/secrets/ns/a") == b'{"plain": 1}'


def test_a_key_is_rotated_by_a_new_first_line(tmp_path: Path) -> None:
    path = tmp_path / "key"
    old = Encryptor.load_or_create(path).encrypt(b"x", "k")
    path.write_bytes(base64.b64encode(os.urandom(32)) + b"\n" + path.read_bytes())
    rotated = Encryptor.load_or_create(path)
    assert rotated.decrypt(old, "k") == b"x"
    assert rotated.encrypt(b"x", "k")[:30] != old[:30]


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    Encryptor.load_or_create(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(DecryptionError, match="chmod"):
        Encryptor.load_or_create(tmp_path / "key")
