"""Valid inputs of the Python targets, made by code; pydicom's own small test files join them."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import damage
import dicoms
import numpy as np
import pydicom.data
from PIL import Image

_LARGEST_BYTES = 40_000  # of pydicom's files: larger ones mutate slowly


def write_seeds(target: str, folder: Path) -> None:
    """Write the seeds of a target into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(_SEEDS[target]()):
        (folder / f"seed-{number:03d}").write_bytes(data)


def _image_files() -> list[bytes]:
    ramp = dicoms.ramp()
    grey = dicoms.ramp(8, 8, "uint8")
    color = np.stack([grey, grey[::-1], grey.T], axis=-1)
    seeds = [dicoms.dicom(ramp, syntax=syntax) for syntax in dicoms.NATIVE]
    seeds += [
        dicoms.dicom(np.stack([ramp] * 3), frames=3, WindowCenter="40\\50", WindowWidth="400\\350"),
        dicoms.dicom(color),
        dicoms.dicom(color, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=1),
    ]
    form = {"Rows": 8, "Columns": 8, "BitsAllocated": 8, "BitsStored": 8}
    seeds += [
        dicoms.dicom([frame], syntax=syntax, **form)
        for syntax, frame in {
            dicoms.RLE: dicoms.rle_segments([grey.tobytes()]),
            dicoms.JPEG: _picture(grey, "JPEG"),
            dicoms.JPEG_2000: _picture(grey, "JPEG2000", no_jp2=True),
        }.items()
    ]
    seeds += [_picture(grey, kind) for kind in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")]
    seeds += [_picture(color, "PNG"), _picture(ramp.astype(np.uint16), "PNG"), _npy(ramp)]
    bundled = Path(pydicom.data.__file__).with_name("test_files").glob("*.dcm")  # nothing is downloaded
    return seeds + [path.read_bytes() for path in sorted(bundled) if path.stat().st_size <= _LARGEST_BYTES]


def _label_tables() -> list[bytes]:
    rows = "path,label,patient,split,mask\na/1.png,cat|dog,p1,train,\na/2.png,,p2,test,m.png\n"
    text = rows.encode()
    return [
        text,
        b"\xef\xbb\xbf" + text,
        text.replace(b"\n", b"\r\n"),
        b' path, label\n"a ""1"".png", "x,y"\n',
    ]


def _outline_files() -> list[bytes]:
    points = '[{"points": [{"x": 1, "y": 2}, {"x": 9, "y": 2}, {"x": 5, "y": 8}], "regionType": "freehand"}]'
    case = (
        f"<case><number>1</number><tirads>4a</tirads><mark><image>1</image><svg>{points}</svg></mark></case>"
    )
    return [case.encode(), f'<?xml version="1.0"?>\n{case}'.encode()]


def _store_roots() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        store = damage.sound_store(Path(folder) / "fuzz.zarr", "tilepack")
        root = json.loads((store / "zarr.json").read_bytes())
    return [json.dumps(root, separators=(",", ":")).encode()]


def _store_files() -> list[bytes]:
    return [bytes([number, 0, 40, 0, 1, 200, 0, 7]) for number in range(8)] + [b"\3\1short", b"\4\1"]


def _picture(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


_SEEDS = {
    "image_file": _image_files,
    "label_table": _label_tables,
    "outline_file": _outline_files,
    "store_root": _store_roots,
    "store_file": _store_files,
}
