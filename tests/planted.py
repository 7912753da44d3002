"""Archives in which every text, comment, name and dropped column is a token that occurs nowhere else."""

import io
import itertools
import random
from pathlib import Path

import numpy as np
from dicoms import CLASSES, JPEG, dicom, item
from PIL import Image, PngImagePlugin
from pydicom import config
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread

# What decides whether and how an image is stored; a token in these would end the file elsewhere.
_MEANINGFUL = frozenset(
    (
        *("SOPClassUID", "Modality", "ImageType", "PhotometricInterpretation", "SpecificCharacterSet"),
        *("NumberOfFrames", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"),
    )
)
_NOT_PLANTED_SEQUENCES = frozenset(
    (
        *("ModalityLUTSequence", "VOILUTSequence", "PresentationLUTSequence", "SequenceOfUltrasoundRegions"),
        *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    )
)
_PLACE = 123456789012  # as long as a word, which takes its place in the file
_TEXT = frozenset(
    ("AE", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
)


class Tokens:
    """Makes tokens for each kind of element, no two alike; ``made`` has them all."""

    def __init__(self, seed: int = 4711) -> None:
        self.made: list[str | bytes] = []
        self.contents: list[bytes] = []  # whole files and raw pixels, to be looked for by their hashes
        self.elements: dict[str, object] = {}  # of every full DICOM file, made once
        self._random = random.Random(seed)  # noqa: S311 - the same tokens every time
        self._serial = itertools.count()

    def word(self) -> str:
        """Twelve letters and digits."""
        return self._keep("".join(self._random.choices("BCDFGHJKLMNPQRSTVWXZ23456789", k=12)))

    def digits(self, count: int) -> str:
        """A number that does not begin with 0."""
        return self._keep(str(self._random.randrange(10 ** (count - 1), 10**count)))

    def value(self, vr: str) -> str:
        """A token that may stand in an element of this VR."""
        day = f"{17 + next(self._serial) % 3}{self._random.randrange(0, 100):02d}"
        day += f"{self._random.randrange(1, 13):02d}{self._random.randrange(1, 29):02d}"
        if vr == "DA":
            return self._keep(day)
        if vr == "TM":
            return self._keep(f"{self._random.randrange(10, 24)}4751.{self._random.randrange(10**5, 10**6)}")
        if vr == "DT":
            return self._keep(f"{day}194751.{self._random.randrange(10**5, 10**6)}")
        if vr == "UI":
            return f"2.25.{self.digits(30)}"
        if vr == "UR":
            return f"http://{self.word()}"
        return self.digits(9) if vr in ("DS", "IS") else self.word()

    def file(self, path: Path, data: bytes) -> None:
        """Write a file and remember its contents."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.contents.append(data)

    def _keep(self, token: str) -> str:
        self.made.append(token)
        return token


def every_element(tokens: Tokens) -> dict[str, object]:
    """Keyword -> token, or item with one, for each text element and sequence that decides nothing."""
    if not tokens.elements:
        for tag, (vr, _, _, _, keyword) in sorted(DicomDictionary.items()):
            if tag >> 16 <= 4 or not keyword:
                continue
            if vr in _TEXT and keyword not in _MEANINGFUL:
                tokens.elements[keyword] = tokens.value(vr)
            elif vr == "SQ" and keyword not in _NOT_PLANTED_SEQUENCES:
                tokens.elements[keyword] = [item(ContextIdentifier=tokens.word())]
    return {**tokens.elements, "SOPInstanceUID": tokens.value("UI")}


def nested(tokens: Tokens, depth: int = 3) -> Dataset:
    """An item with text, private elements, and items of its own."""
    inner = {"ReferencedStudySequence": [nested(tokens, depth - 1)]} if depth else {}
    made = item(PatientComments=tokens.word(), PersonName=tokens.value("PN"), **inner)
    made.PatientID, made.StudyDate = tokens.word(), tokens.value("DA")
    private(made, tokens)
    return made


def private(dataset: Dataset, tokens: Tokens) -> None:
    """Add a private block of text and of bytes."""
    block = dataset.private_block(0x0029, tokens.word(), create=True)
    for offset, vr in enumerate(("LO", "UN", "OB", "PN", "UI", "DA"), 1):
        value = tokens.value(vr)
        block.add_new(offset, vr, value if vr in _TEXT else value.encode() + bytes(len(value) % 2))


def full_dicom(tokens: Tokens, image: np.ndarray, **elements: object) -> bytes:
    """An image with a token in every text element, sequence, private block, overlay, icon and padding."""
    with config.disable_value_validation():
        planted = every_element(tokens)
        planted["ReferencedStudySequence"] = [nested(tokens), nested(tokens)]
        icon = item(Rows=4, Columns=4, SamplesPerPixel=1, BitsAllocated=8, PatientName=tokens.word())
        icon.PixelData = tokens.word().encode() + b"1234"
        icon["PixelData"].VR = "OB"
        planted["IconImageSequence"] = [icon]
        planted["DataSetTrailingPadding"] = tokens.word().encode()
        planted["EncapsulatedDocument"] = tokens.word().encode()
        dataset = dcmread(io.BytesIO(dicom(image, **{**planted, **elements})))
        private(dataset, tokens)
        for group in (0x6000, 0x6002):
            overlay = tokens.word().encode() + b"1234"
            dataset.add_new((group << 16) + 0x3000, "OW", overlay)
            dataset.add_new((group << 16) + 0x0022, "LO", tokens.word())
            dataset.add_new((group << 16) + 0x1500, "LO", tokens.word())
        meta = dataset.file_meta
        meta.SourceApplicationEntityTitle = tokens.word()
        meta.ImplementationVersionName = tokens.word()
        meta.PrivateInformationCreatorUID = tokens.value("UI")
        meta.PrivateInformation = tokens.word().encode()
        dataset.preamble = (tokens.word() * 11)[:128].encode()
        stream = io.BytesIO()
        dataset.save_as(stream, enforce_file_format=True)
    tokens.contents.append(image.tobytes())
    return stream.getvalue()


def dicom_archive(folder: Path, tokens: Tokens) -> Path:
    """Images that are stored, that are skipped, and that are quarantined for a value that is a token."""
    rng = np.random.default_rng(0)

    def image() -> np.ndarray:
        return rng.integers(-1000, 1000, (16, 20)).astype(np.int16)

    def put(data: bytes) -> None:
        tokens.file(folder / tokens.word() / tokens.word() / f"{tokens.word()}.dcm", data)

    for _ in range(3):
        put(full_dicom(tokens, image()))
    uid = tokens.value("UI")
    for _ in range(2):  # one UID, two images: both are quarantined
        put(full_dicom(tokens, image(), SOPInstanceUID=uid))
    put(full_dicom(tokens, image())[:-999])
    put(full_dicom(tokens, image())[:3000])
    with config.disable_value_validation():
        for keyword in ("NumberOfFrames", "RescaleSlope", "WindowCenter"):  # numbers, for pydicom
            data = dicom(image(), SOPInstanceUID=tokens.value("UI"), **{keyword: _PLACE})
            put(data.replace(str(_PLACE).encode(), tokens.word().encode()))
        for keyword in ("PhotometricInterpretation", "ImageType", "Modality", "PatientAge", "Laterality"):
            put(dicom(image(), SOPInstanceUID=tokens.value("UI"), **{keyword: tokens.word()}))
        put(
            dicom(image(), SpecificCharacterSet="ISO_IR 192").replace(
                b"ISO_IR 192", tokens.word()[:10].encode()
            )
        )
        put(dicom(image(), sop_class=tokens.value("UI"), PatientName=tokens.word()))
        put(dicom(image(), BurnedInAnnotation="YES", PatientName=tokens.word()))
        put(dicom(image(), sop_class=CLASSES["SC"], PatientName=tokens.word()))
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (16, 20)).astype(np.uint8)).save(
            stream, "JPEG", comment=tokens.word().encode()
        )
        for frames in ([stream.getvalue()], [stream.getvalue()[:200]], [tokens.word().encode() * 4]):
            put(
                dicom(
                    frames,
                    syntax=JPEG,
                    SOPInstanceUID=tokens.value("UI"),
                    Rows=16,
                    Columns=20,
                    BitsAllocated=8,
                    BitsStored=8,
                )
            )
    tokens.file(folder / f"{tokens.word()}.txt", tokens.word().encode())
    tokens.file(folder / f"{tokens.word()}.dcm", b"%PDF-1.4 " + tokens.word().encode())
    (folder / f"{tokens.word()}.dcm").symlink_to(folder / tokens.word())
    return folder


def raster_archive(folder: Path, tokens: Tokens) -> Path:
    """PNG, JPEG, TIFF and GIF with comments and EXIF, and a table whose other columns are dropped."""
    rng = np.random.default_rng(1)
    header = ["path", "label", "patient", "study", "series", "site", "mrn", "comment", "mask"]
    rows = [",".join(header)]

    def put(data: bytes, suffix: str, label: str) -> None:
        path = f"{tokens.word()}/{tokens.word()}{suffix}"
        tokens.file(folder / path, data)
        row = [
            path,
            label,
            tokens.word(),
            tokens.word(),
            tokens.word(),
            "wanted",
            tokens.word(),
            tokens.word(),
        ]
        rows.append(",".join([*row, ""]))

    for number in range(3):
        image = Image.fromarray(rng.integers(0, 200, (16, 20)).astype(np.uint8))
        tokens.contents.append(image.tobytes())
        exif = Image.Exif()
        for tag in (0x010E, 0x013B, 0x8298, 0x9286):  # description, artist, copyright, user comment
            exif[tag] = tokens.word()
        exif.get_ifd(0x8825)[29] = tokens.word()  # a date by GPS
        texts = PngImagePlugin.PngInfo()
        texts.add_text(tokens.word(), tokens.word())
        texts.add_text("Comment", tokens.word(), zip=True)
        texts.add_itxt("Patient", tokens.word(), lang="", tkey=tokens.word())
        settings = {
            ".png": ("PNG", {"pnginfo": texts, "exif": exif}),
            ".jpg": ("JPEG", {"comment": tokens.word().encode(), "exif": exif}),
            ".tif": ("TIFF", {"tiffinfo": {270: tokens.word(), 315: tokens.word(), 305: tokens.word()}}),
            ".gif": ("GIF", {"comment": tokens.word().encode()}),
        }
        for suffix, (kind, how) in settings.items():
            stream = io.BytesIO()
            image.rotate(90 * number, expand=True).save(stream, kind, **how)
            put(stream.getvalue(), suffix, "ab"[number % 2])
            put(stream.getvalue()[: len(stream.getvalue()) // 2] + tokens.word().encode(), suffix, "a")
    npy = io.BytesIO()
    np.save(npy, rng.integers(0, 99, (16, 20)).astype(np.uint16))
    put(npy.getvalue(), ".npy", "b")
    put(npy.getvalue().replace(b"<u2", b"|O "), ".npy", "b")
    tokens.file(folder.with_suffix(".csv"), "\n".join(rows).encode())
    return folder
