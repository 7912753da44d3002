"""A few patients -> their archive, and a store that forgets some: what the tests of forgetting share."""

import itertools
import shutil

import pytest
from archives import dicom, ingest, pixels, samples_of

from pyrad.ingest.privacy.folder import PrivateFolder
from pyrad.ingest.privacy.forget import ForgetOptions, forget
from pyrad.progress import Reporter
from pyrad.store import layout
from pyrad.store.reader import open_store


def archive(folder, patients, images=3):
    """CT slices of two sizes of some patients."""
    for patient, number in itertools.product(patients, range(images)):
        seed = 100 * sum(map(ord, patient)) + number
        image = pixels(seed, rows=16 + number % 2, dtype="int16")
        uid = f"1.2.3.{seed}"
        dicom(
            folder / patient / f"{number}.dcm",
            image,
            uid=uid,
            patient=patient,
            study=f"1.9.{sum(map(ord, patient))}",
        )
    return folder


def write_four_patients(folder):
    """The folder, with a store of four patients, its private folder and its archive."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYRAD_SECRET", "of the tests")
        patch.setattr(layout, "SHARD_IMAGES_LIMIT", 2)
        ingest(folder / "s.zarr", archive(folder / "a", ["P1", "P2", "P3", "P4"]))
    return folder


def copy_of(folder, to):
    """A copy of such a folder; its store."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    return to / "s.zarr"


def run(store, text, **options):
    """Forget those of a list."""
    path = store.parent / "list.txt"
    path.write_text(text)
    settings = {"private": store.parent / "private", **options}
    return forget(ForgetOptions(store=store, patients=path, **settings), Reporter())


def images_of(store):
    """Key -> row without its place, and pixels, of every sample."""
    rows = {}
    for row in samples_of(store):
        image, mask = row.pop("image"), row.pop("stored_mask")
        row.pop("bucket")
        rows[row["key"]] = (row, image.tobytes(), None if mask is None else mask.tobytes())
    return rows


def patient_of(store):
    """Key -> the folder of the archive, which is the patient."""
    private = PrivateFolder(store.parent / "private", "")
    with open_store(store) as opened:
        keys = opened.samples["key"].to_pylist()
    return {trace.key: trace.path.split("/")[0] for trace in private.find(keys)}
