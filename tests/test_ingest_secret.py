"""The secret, the keys made of it, and the private folder that leads back from them."""

import hashlib
import hmac
import pickle
from dataclasses import replace

import pytest

from pyrad.errors import SecretError
from pyrad.ingest.private import PrivateFolder, Trace
from pyrad.ingest.secret import Secret, resolve_secret

SECRET = Secret(b"a secret", "the test")


def test_the_secret_is_not_printed_and_not_pickled():
    assert "a secret" not in repr(SECRET)
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(SECRET)


def test_key_check_and_salt_are_as_the_format_says():
    assert SECRET.key_check == hmac.new(b"a secret", b"pyrad key check 1", hashlib.sha256).hexdigest()[:16]
    assert SECRET.file_salt == hmac.new(b"a secret", b"pyrad file salt 1", hashlib.sha256).hexdigest()[:32]
    key = hmac.new(b"a secret", b"key\x001.2.3\x000", hashlib.sha256).hexdigest()[:32]
    assert SECRET.name("key", "1.2.3", "0") == key


def test_where_the_secret_comes_from(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("PYRAD_SECRET", raising=False)
    said = []

    def resolve(file=None, key_check=None):
        return resolve_secret(file, key_check=key_check, store="s.zarr")

    with pytest.raises(SecretError, match="none is given"):
        resolve(key_check="0" * 16)
    made = resolve()
    path = tmp_path / "config" / "pyrad" / "secret"
    assert not path.exists()
    made.keep(said.append)
    made.keep(said.append)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_bytes()) == 32
    assert len(said) == 1
    assert str(path) in said[0]
    assert resolve(key_check=made.key_check).key_check == made.key_check
    with pytest.raises(SecretError, match="in this moment"):
        Secret(b"x", "", new_file=path).keep(said.append)
    monkeypatch.setenv("PYRAD_SECRET", "x")
    assert resolve().key_check == Secret(b"x", "").key_check
    with pytest.raises(SecretError, match="another secret than that of PYRAD_SECRET"):
        resolve(key_check=made.key_check)
    (tmp_path / "file").write_text("x\n")
    assert resolve(tmp_path / "file").key_check == Secret(b"x", "").key_check
    (tmp_path / "file").write_text("\n")
    with pytest.raises(SecretError, match="is empty"):
        resolve(tmp_path / "file")
    with pytest.raises(SecretError, match="cannot be read"):
        resolve(tmp_path / "absent")
    assert len(said) == 1


def test_the_private_folder_keeps_what_it_knows(tmp_path):
    folder = PrivateFolder(tmp_path / "deep" / "private", "0" * 16)
    first = Trace(
        store="s",
        source="1",
        key="k",
        archive="a",
        path="caf\udce9.png",
        digest="d",
        pixels="p",
        reason="stored",
    )
    folder.record([first], {})
    folder.record([replace(first, pixels=""), replace(first, store="t", digest="e", pixels="")], {})
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert [(t.path, t.pixels) for t in folder.traces("s")] == [("caf\\xe9.png", "p")]
    assert [t.pixels for t in folder.traces("t")] == [""]
    assert all(f.stat().st_mode & 0o777 == 0o600 for f in folder.path.iterdir())
