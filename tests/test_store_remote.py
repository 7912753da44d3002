"""Stores on object storage, against a server process that speaks S3 (moto: an emulator)."""

import gc
import sys
from pathlib import Path

import numpy as np
import pytest
from parts import MASK, add_part, mixed, tree_bytes
from s3server import BUCKET, client, objects, s3_server

from pyrad.cli import main
from pyrad.errors import IntegrityError, NotAStoreError, PyradError, StoreBusyError, UsageError
from pyrad.store import bucket, remote
from pyrad.store.bucket import Bucket, url_of
from pyrad.store.reader import open_store
from pyrad.store.remote import checked_out
from pyrad.store.verify import verify

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # botocore keeps its connections


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as environment:
        yield environment
    gc.collect()


@pytest.fixture
def s3(server, monkeypatch, tmp_path):
    """The bucket, emptied, and a machine with folders of its own."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    other_machine(monkeypatch, tmp_path / "machine")
    bucket._client.cache_clear()
    s3 = client(server)
    for name in objects(s3, ""):
        s3.delete_object(Bucket=BUCKET, Key=name)
    return s3


def other_machine(monkeypatch, folder):
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


STORE = Path(f"s3://{BUCKET}/stores/chest.zarr")
URL = f"s3://{BUCKET}/stores/chest.zarr"


def commit(**how):
    with checked_out(STORE) as working:
        add_part(working.folder, mixed(how.pop("seed", 0)), masks={1: MASK}, **how)
        working.publish()


def test_a_path_folds_the_slashes_of_a_url_and_it_is_known_again():
    assert url_of(STORE) == url_of(URL) == URL
    assert url_of("a/s3:/b") is None
    assert url_of(Path("/data/chest.zarr")) is None


def test_the_objects_are_the_files_of_a_local_store(s3, tmp_path):
    commit()
    local = add_part(tmp_path / "chest.zarr", mixed(), masks={1: MASK})
    assert objects(s3, "stores/chest.zarr/") == tree_bytes(local)
    assert not objects(s3, "stores/chest.zarr.partial/")
    with open_store(URL) as store, open_store(local) as twin:
        assert len(store) == len(twin)
        for index in range(len(twin)):
            assert np.array_equal(store.image(index), twin.image(index))
        assert np.array_equal(store.mask(1), MASK)
    assert verify(URL) == verify(local)


def test_a_part_is_added_by_another_machine(s3, tmp_path, monkeypatch):
    commit()
    other_machine(monkeypatch, tmp_path / "second")
    commit(seed=50, first=100)
    local = add_part(tmp_path / "chest.zarr", mixed(), masks={1: MASK})
    add_part(local, mixed(50), masks={1: MASK}, first=100)
    assert objects(s3, "stores/chest.zarr/") == tree_bytes(local)
    verify(URL)


def test_of_two_first_commits_one_is_made(s3, tmp_path, monkeypatch):
    def overtaken():
        with checked_out(STORE) as working:
            add_part(working.folder, mixed(), masks={1: MASK})
            with monkeypatch.context() as patch:
                other_machine(patch, tmp_path / "second")
                commit(seed=50, first=100)
            working.publish()

    with pytest.raises(StoreBusyError, match="run the same command again"):
        overtaken()
    winner = add_part(tmp_path / "chest.zarr", mixed(50), masks={1: MASK}, first=100)
    assert objects(s3, "stores/chest.zarr/") == tree_bytes(winner)
    commit()  # the same command again
    verify(URL)


def test_a_claim_of_another_writer_is_respected_until_it_is_deleted(s3):
    claim = {"Bucket": BUCKET, "Key": "stores/chest.zarr.partial/claim-000001.json"}
    s3.put_object(**claim, Body=b"{}")
    with pytest.raises(
        StoreBusyError, match=r"aws s3 rm s3://hospital/stores/chest\.zarr\.partial/claim-000001\.json"
    ):
        commit()
    with pytest.raises(NotAStoreError):
        open_store(URL)
    s3.delete_object(**claim)
    with checked_out(STORE):  # what was committed in the working copy goes up
        pass
    verify(URL)


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_an_upload_that_stops_is_taken_up(s3, monkeypatch, tmp_path, stop):
    calls = []
    real = Bucket._put

    def broken(self, path, source, condition):
        calls.append(path)
        if len(calls) == stop:
            raise PyradError("the line is cut")
        return real(self, path, source, condition)

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "_put", broken)
        with pytest.raises(PyradError, match="line is cut"):
            commit()
    with pytest.raises(NotAStoreError):
        open_store(URL)
    with checked_out(STORE):
        pass
    local = add_part(tmp_path / "chest.zarr", mixed(), masks={1: MASK})
    assert objects(s3, "stores/chest.zarr/") == tree_bytes(local)
    assert not objects(s3, "stores/chest.zarr.partial/")


def test_what_a_dead_writer_left_of_another_part_is_replaced(s3, tmp_path):
    local = add_part(tmp_path / "chest.zarr", mixed(), masks={1: MASK})
    name = "parts/000001/samples.parquet"
    for left in (name, "parts/000001/images/9x9_u8/c/0/0/0"):
        s3.put_object(Bucket=BUCKET, Key=f"stores/chest.zarr/{left}", Body=b"another's")
    commit()
    assert objects(s3, "stores/chest.zarr/") == tree_bytes(local)


def test_a_commit_whose_answer_was_lost_is_known_for_ours(s3, monkeypatch):
    real = Bucket.commit

    def answered_late(self, path, source, etag):
        assert real(self, path, source, etag)
        return real(self, path, source, etag)  # as a retry does

    monkeypatch.setattr(Bucket, "commit", answered_late)
    commit()
    verify(URL)
    assert not objects(s3, "stores/chest.zarr.partial/")


def test_a_removed_store_is_not_raised_from_the_dead(s3, tmp_path):
    commit()
    for name in objects(s3, "stores/"):
        s3.delete_object(Bucket=BUCKET, Key=f"stores/{name}")
    commit(seed=50)
    local = add_part(tmp_path / "chest.zarr", mixed(50), masks={1: MASK})
    assert objects(s3, "stores/chest.zarr/") == tree_bytes(local)


def test_multipart_uploads_are_conditional_too(s3, monkeypatch, tmp_path):
    monkeypatch.setattr(bucket, "_MULTIPART_FROM_BYTES", 1)
    monkeypatch.setattr(bucket, "_PIECE_BYTES", 5 << 20)
    large = tmp_path / "large"
    large.write_bytes(np.random.default_rng(0).bytes(11 << 20))
    place = Bucket(f"s3://{BUCKET}/big")
    assert place.create("shard", large)
    assert objects(s3, "big/") == {"shard": large.read_bytes()}
    other = tmp_path / "other"
    other.write_bytes(b"x" * (6 << 20))
    assert not place.create("shard", other)
    assert objects(s3, "big/") == {"shard": large.read_bytes()}
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


@pytest.mark.usefixtures("s3")
def test_the_cache_is_bounded_and_what_left_it_comes_again(monkeypatch):
    commit()
    monkeypatch.setenv("PYRAD_CACHE_BYTES", "1")
    with open_store(URL) as store:
        images = [store.image(index) for index in range(len(store))]
    with open_store(URL) as store:
        assert all(np.array_equal(store.image(index), image) for index, image in enumerate(images))
    cached = [f for f in remote.cache_folder().rglob("c/**/*") if f.is_file()]
    assert len(cached) == 1  # the last one, larger than the bound as it is


@pytest.mark.parametrize("how", ["flip", "cut", "delete"])
def test_damage_in_the_bucket_is_found_and_named(s3, how):
    commit()
    name = next(key for key in objects(s3, "stores/chest.zarr/") if "20x13_i16/c/" in key and "images" in key)
    place = {"Bucket": BUCKET, "Key": f"stores/chest.zarr/{name}"}
    data = bytearray(s3.get_object(**place)["Body"].read())
    data[7] ^= 1
    if how == "delete":
        s3.delete_object(**place)
    else:
        s3.put_object(**place, Body=bytes(data) if how == "flip" else bytes(data[:-1]))
    with pytest.raises(IntegrityError, match="20x13_i16"):
        verify(URL)


@pytest.mark.usefixtures("s3")
def test_two_stores_are_written_at_once_and_one_store_by_one_writer():
    other = Path(f"s3://{BUCKET}/stores/heads.zarr")
    with checked_out(STORE) as working:
        add_part(working.folder, mixed(), masks={1: MASK})
        with checked_out(other) as second:
            add_part(second.folder, mixed(50))
            second.publish()
        with pytest.raises(StoreBusyError, match="another process of this machine"), checked_out(STORE):
            pass
        working.publish()
    verify(URL)
    verify(other)


@pytest.mark.usefixtures("s3")
def test_no_shard_stays_in_the_working_copy_once_it_is_sent():
    commit()
    commit(seed=50, first=100)
    left = [file for file in remote.data_folder().rglob("*") if file.is_file()]
    assert {file.name for file in left} >= {"samples.parquet", "zarr.json", "sent"}
    assert not [file for file in left if "c" in file.parts]


@pytest.mark.usefixtures("s3")
def test_refusals_are_sentences(monkeypatch):
    with pytest.raises(NotAStoreError, match="no pyrad store"):
        open_store(URL)
    missing = Path("s3://no-such-bucket/chest.zarr")
    with pytest.raises(UsageError, match=r"no-such-bucket/chest\.zarr: there is no such bucket"):
        open_store(missing)
    with pytest.raises(UsageError, match="no such bucket"), checked_out(missing):
        pass
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    bucket._client.cache_clear()
    with pytest.raises(PyradError, match="EndpointConnectionError"):
        open_store(URL)


def test_without_boto3_the_command_line_says_what_to_install(monkeypatch, capsys):
    for name in ("boto3", "botocore", "botocore.config", "botocore.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    bucket._client.cache_clear()
    assert main(["info", URL]) == 1
    said = capsys.readouterr().err
    assert "pip install 'pyrad[s3]'" in said
    assert "a bug" not in said
