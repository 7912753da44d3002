"""The secret, the keys made of it, and the private folder that leads back from them."""

import hashlib
import hmac
import pickle
import threading
import time
from dataclasses import replace

import pytest

from pyrad.errors import PyradError, SecretError
from pyrad.ingest.privacy.folder import PrivateFolder, Trace
from pyrad.ingest.privacy.secret import Secret, resolve_secret

SECRET = Secret(b"a secret", "the test")


def test_the_secret_is_not_printed_and_not_pickled():
    assert "a secret" not in repr(SECRET)
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(SECRET)


def test_key_check_and_salt_are_as_the_format_says():
    assert SECRET.key_check == hmac.new(b"a secret", b"pyrad key check 1", hashlib.sha256).hexdigest()[:16]
    assert SECRET.file_salt == hmac.new(b"a secret", b"pyrad file salt 1", hashlib.sha256).hexdigest()[:32]


@pytest.mark.parametrize("length", [0, 1, 32, 63, 64, 65, 200])
def test_names_are_hmacs_as_the_format_says(length):
    key = bytes(range(length))
    for message in (b"key\x001.2.3\x000", b"key\0\xff\0", b"key\0"):
        parts = message.decode("utf-8", "surrogateescape").split("\0")
        assert Secret(key, "the test").name(*parts) == hmac.digest(key, message, "sha256").hex()[:32]


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
    folder.record([first])
    folder.record([replace(first, pixels=""), replace(first, store="t", digest="e", pixels="")])
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert [(t.path, t.pixels) for t in folder.traces("s")] == [("caf\\xe9.png", "p")]
    assert [t.pixels for t in folder.traces("t")] == [""]
    assert all(f.stat().st_mode & 0o777 == 0o600 for f in folder.path.iterdir())
    folder.record([replace(first, pixels="", digest="other")])
    assert [t.pixels for t in folder.traces("s")] == [""]


def test_traces_are_found_and_removed_by_key_and_by_source(tmp_path):
    folder = PrivateFolder(tmp_path / "private", "0" * 16)
    assert list(folder.find(["k1"])) == list(folder.traces("s")) == []
    assert folder.remove(["k1"]) == 0
    made = [
        Trace(store="s", source=f"f{n // 2}", key=f"k{n}", archive="a", path=f"SECRET {n}", reason="stored")
        for n in range(1200)
    ]
    folder.record(made)
    assert [t.key for t in folder.find(["k7"])] == ["k7"]
    assert [t.key for t in folder.find(["f3", "k1", "unknown"])] == ["k1", "k6", "k7"]
    assert len([*folder.find(f"k{n}" for n in range(1200))]) == 1200
    assert folder.remove(f"k{n}" for n in range(0, 1200, 2)) == 600
    assert [t.key for t in folder.find(["f3"])] == ["k7"]
    folder.remove(["k7"])
    assert folder.remove([f"k{n}" for n in range(1200)]) == 599
    assert b"SECRET" not in folder.crosswalk.read_bytes()


def test_a_damaged_crosswalk_is_named(tmp_path):
    folder = PrivateFolder(tmp_path, "0" * 16)
    folder.crosswalk.write_bytes(b"nonsense" * 999)
    with pytest.raises(PyradError, match="it is damaged; restore it"):
        list(folder.traces("s"))


def test_a_crosswalk_that_cannot_be_written_says_where_to_look(tmp_path):
    folder = PrivateFolder(tmp_path, "0" * 16)
    folder.record([])
    folder.crosswalk.with_name(folder.crosswalk.name + "-journal").mkdir()  # SQLite cannot begin its journal
    made = Trace(store="s", source="f", archive="a", path="p", reason="stored")
    with pytest.raises(PyradError, match=r"sqlite cannot be used: .*; see that its disk has room"):
        folder.record([made])


def test_writers_of_one_crosswalk_wait_for_each_other(tmp_path):
    folder = PrivateFolder(tmp_path, "0" * 16)
    made = [Trace(store="s", source=f"{n}", archive="a", path="p", reason="stored") for n in range(3000)]

    def slowly():
        for n, trace in enumerate(made):
            if n % 1000 == 0:
                time.sleep(0.05)
            yield trace

    def write(name):
        PrivateFolder(tmp_path, "0" * 16).record(replace(trace, store=name) for trace in slowly())

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len([*folder.traces(name)]) for name in "abc"] == [3000] * 3
