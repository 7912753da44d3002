"""A folder of .dcm files -> a .npy of what GDCM decodes beside each; a script: its death costs one test.

The array is (rows, columns[, 3]) as coded: no colour is converted and no palette applied. There is none where
GDCM cannot read the file.
"""

import sys
from pathlib import Path

import gdcm
import numpy as np


def read(path):
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        return None
    image = reader.GetImage()
    form = image.GetPixelFormat()
    kind = f"{'iu'[form.GetPixelRepresentation() == 0]}{form.GetBitsAllocated() // 8}"
    data = image.GetBuffer().encode("utf-8", errors="surrogateescape")
    rows, columns = image.GetDimension(1), image.GetDimension(0)
    samples = form.GetSamplesPerPixel()
    cells = np.frombuffer(data, kind)[: rows * columns * samples]
    if samples == 1:
        return cells.reshape(rows, columns)
    if image.GetPlanarConfiguration():
        return np.moveaxis(cells.reshape(samples, rows, columns), 0, -1)
    return cells.reshape(rows, columns, samples)


gdcm.Trace.WarningOff()
gdcm.Trace.ErrorOff()
for path in sorted(Path(sys.argv[1]).glob("*.dcm")):
    try:
        found = read(path)
    except Exception:  # noqa: BLE001 - whatever it is, GDCM has no opinion on this file
        found = None
    if found is not None:
        np.save(path.with_suffix(".npy"), found)
