"""The peers, one row each: what it starts from, what it is, and where it is installed from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"

COMPRESSED = "16-bit, compressed"
RAW = "16-bit, raw"
JPEG = "8-bit, JPEG"
MEMORY = "16-bit, in memory"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One way of making the batches; its code is ``adapters/MODULE.py``."""

    name: str
    module: str
    starts_from: str
    form: str  # of the data set: a name in forms.WRITERS, else the module's own ``write`` makes it
    about: str
    environment: str = ""  # requirements/ENVIRONMENT.txt; "" is the project's own
    caches: tuple[str, ...] = ("hot", "cold")

    @property
    def requirements(self) -> Path:
        """What is installed beside the project's packages; no file where nothing is."""
        return REQUIREMENTS / f"{self.environment or 'none'}.txt"


PEERS = (
    Peer(
        name="pyrad",
        module="pyrad",
        starts_from=COMPRESSED,
        form="tilepack",
        about="pyrad.Loader, tilepack with crc32c",
    ),
    Peer(
        name="torch-png",
        module="torch_png",
        starts_from=COMPRESSED,
        form="png",
        about="torch DataLoader, PNG-16, Pillow",
    ),
    Peer(
        name="zarr",
        module="zarr",
        starts_from=COMPRESSED,
        form="zarr",
        about="torch DataLoader, zarr-python, blosc LZ4",
    ),
    Peer(
        name="tensorstore",
        module="tensorstore",
        starts_from=COMPRESSED,
        form="zarr",
        about="tensorstore + torch, blosc LZ4",
    ),
    Peer(
        name="torch-dicom",
        module="torch_dicom",
        starts_from=RAW,
        form="dicom",
        about="torch DataLoader, uncompressed DICOM, pydicom",
    ),
    Peer(
        name="torch-npy",
        module="torch_npy",
        starts_from=RAW,
        form="npy",
        about="torch DataLoader, .npy files",
    ),
    Peer(
        name="zarrs",
        module="zarrs",
        starts_from=COMPRESSED,
        form="zarr",
        about="torch DataLoader, zarr-python with zarrs, blosc LZ4",
        environment="zarrs",
    ),
    Peer(
        name="dali-png",
        module="dali_png",
        starts_from=COMPRESSED,
        form="png",
        about="DALI on the CPU, PNG-16",
        environment="dali",
    ),
    Peer(
        name="dali-npy",
        module="dali_npy",
        starts_from=RAW,
        form="npy",
        about="DALI on the CPU, .npy files",
        environment="dali",
    ),
    Peer(
        name="ffcv-raw",
        module="ffcv_raw",
        starts_from=RAW,
        form="beton",
        about="FFCV arrays + torch",
        environment="ffcv",
    ),
    Peer(
        name="monai-persistent",
        module="monai_persistent",
        starts_from=RAW,
        form="monai",
        about="MONAI PersistentDataset",
        environment="monai",
    ),
    Peer(
        name="webdataset",
        module="webdataset",
        starts_from=RAW,
        form="tar",
        about="WebDataset, .npy in tar",
        environment="webdataset",
    ),
    Peer(
        name="mosaicml",
        module="mosaicml",
        starts_from=RAW,
        form="mds",
        about="MosaicML Streaming, arrays in MDS",
        environment="mosaicml",
    ),
    Peer(
        name="litdata",
        module="litdata",
        starts_from=RAW,
        form="litdata",
        about="LitData, arrays in chunks",
        environment="litdata",
    ),
    Peer(
        name="spdl",
        module="spdl",
        starts_from=RAW,
        form="npy",
        about="SPDL threads, .npy files",
        environment="spdl",
    ),
    Peer(
        name="monai-cache",
        module="monai_cache",
        starts_from=MEMORY,
        form="npy",
        about="MONAI CacheDataset, all stored images in memory",
        environment="monai",
        caches=("hot",),
    ),
    Peer(
        name="dali-jpeg",
        module="dali_jpeg",
        starts_from=JPEG,
        form="jpeg",
        about="DALI on the CPU, JPEG",
        environment="dali",
    ),
    Peer(
        name="ffcv-jpeg",
        module="ffcv_jpeg",
        starts_from=JPEG,
        form="beton-jpeg",
        about="FFCV, RGB JPEG, OpenCV's area filter",
        environment="ffcv",
    ),
)
BY_NAME = {peer.name: peer for peer in PEERS}
