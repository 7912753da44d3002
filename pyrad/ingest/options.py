"""Words of a command line or a TOML file -> the options of `pyrad ingest`, checked at the door."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pyrad.errors import UsageError
from pyrad.ingest.anatomy import AnatomyTable, packaged, read_anatomy
from pyrad.ingest.dicom.burned_in import BURNED_IN, RULES, Rule, read_rules
from pyrad.ingest.policy import INCLUDES, ScanOptions
from pyrad.ingest.selectors import NUMBERS, WORDS, parse_conditions
from pyrad.ingest.split import DEFAULT_SPLIT, parse_ratios
from pyrad.ingest.table import parse_roles

# Whole data sets as their authors publish them; layouts/published.py has a function for each.
PUBLISHED_LAYOUTS = (
    *("radimagenet", "busi", "ddti", "mrnet", "rsna-pneumonia", "rsna-ich", "covid-ct", "cc-ccii"),
)
LAYOUTS = ("auto", "dicom", "folder", "table", *PUBLISHED_LAYOUTS)

# Radiographs that are published as secondary captures, silent about burned-in text: by asking for the layout
# the user says what they are.
_SECONDARY_CAPTURES = "rsna-pneumonia"

# Titles under which the help shows the options.
_IMAGES = "which images"
_LABELS = "labels and splits"
_STORE = "the store"
_SAFETY = "safety"
_RUNNING = "running"


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """The options of one ingest; those that shape a store's content are recorded in its manifest."""

    src: tuple[Path, ...] = field(
        metadata={"help": "archives: folders, zip files or single images", "positional": True}
    )
    store: Path = field(metadata={"help": "the store to write or to add to, a folder NAME.zarr"})
    include: tuple[str, ...] = field(
        default=(),
        metadata={
            "group": _IMAGES,
            "help": f"DICOM objects to store that are skipped otherwise: {', '.join(INCLUDES)}",
        },
    )
    select: tuple[str, ...] = field(
        default=(),
        metadata={
            "group": _IMAGES,
            "help": "only files of which all of these hold, such as 'modality=CT,rows>=256' (in quotes); "
            "! negates, | separates alternatives; names: "
            f"{', '.join(WORDS + NUMBERS)}",
            "metavar": "EXPR,...",
        },
    )
    frames: str = field(
        default="all",
        metadata={
            "group": _IMAGES,
            "help": "all; only those that Key Object Selection documents name; or every Nth of a multi-frame "
            "file",
            "metavar": "all|key|every:N",
        },
    )
    burned_in: str = field(
        default="refuse",
        metadata={
            "group": _IMAGES,
            "help": "images whose pixels may show a name: refuse those not declared free of it; allow them; "
            "keep only the one spatial region of an ultrasound image; or blank and crop by the rules of FILE",
            "metavar": f"{'|'.join(BURNED_IN)}|{RULES}FILE",
        },
    )
    color: str = field(
        default="luma",
        metadata={
            "group": _IMAGES,
            "help": "true colour becomes one luma plane, or keeps its planes",
            "choices": ("luma", "planes"),
        },
    )
    layout: str = field(
        default="auto",
        metadata={
            "group": _LABELS,
            "help": "where labels and patients come from: a table, DICOM tags, the names of folders, "
            "whichever fits, or a data set as its authors publish it",
            "choices": LAYOUTS,
        },
    )
    table: Path | None = field(
        default=None,
        metadata={"group": _LABELS, "help": "label table, a CSV file with a column path", "metavar": "FILE"},
    )
    columns: tuple[str, ...] = field(
        default=(),
        metadata={
            "group": _LABELS,
            "help": "which column of the table plays which role, such as label=kl_grade,group=patient_id; "
            "roles: "
            "path, label, group (or patient), study, series, split, mask, modality, anatomy; uid, accession "
            "and study join a table without paths to what headers say",
            "metavar": "ROLE=COLUMN,...",
        },
    )
    keep_columns: tuple[str, ...] = field(
        default=(),
        metadata={
            "group": _LABELS,
            "help": "columns of the table to copy into the store's samples table as they are",
        },
    )
    anatomy_table: Path | None = field(
        default=None,
        metadata={
            "group": _LABELS,
            "help": "which words of headers and tables mean which body region: a CSV file with the columns "
            "kind, pattern and anatomy, over the one that comes with pyrad",
            "metavar": "FILE",
        },
    )
    group_by: str = field(
        default="patient",
        metadata={
            "group": _LABELS,
            "help": "what must never be divided between train, val and test",
            "choices": ("patient", "study", "series"),
        },
    )
    split: str | None = field(
        default=None,
        metadata={
            "group": _LABELS,
            "help": f"shares of patients for train/val/test (default: the table's own split, else "
            f"{DEFAULT_SPLIT})",
            "metavar": "A/B/C",
        },
    )
    near_duplicates: str = field(
        default="group",
        metadata={
            "group": _LABELS,
            "help": "images that are the same but for size, compression, window, flip or turn: group them "
            "where no patient is known and refuse copies of an image in another split; only list them; or "
            "do not look",
            "choices": ("group", "list", "off"),
        },
    )
    codec: str | None = field(
        default=None,
        metadata={
            "group": _STORE,
            "help": "how pixels are packed: tilepack is the fastest to read, tilepack-mixed stores images of "
            "8 bits smaller, tilepack-dense all; zstd is readable by any Zarr reader (default: the store's "
            "own, else tilepack-mixed)",
            "choices": ("tilepack", "tilepack-mixed", "tilepack-dense", "zstd"),
        },
    )
    max_quarantine: str = field(
        default="5%",
        metadata={
            "group": _STORE,
            "help": "commit nothing if more than this share of the images is quarantined",
            "metavar": "P%",
        },
    )
    secret_file: Path | None = field(
        default=None,
        metadata={
            "group": _SAFETY,
            "help": "file with the secret that makes keys of identifiers (else PYRAD_SECRET, else a file "
            "made for you)",
            "metavar": "FILE",
        },
    )
    private: Path | None = field(
        default=None,
        metadata={
            "group": _SAFETY,
            "help": "folder for what leads back to patients (default: in your data folder)",
            "metavar": "DIR",
        },
    )
    dry_run: bool = field(
        default=False,
        metadata={
            "group": _RUNNING,
            "help": "write nothing anywhere: say what would be stored, skipped and quarantined, and why",
        },
    )
    workers: int | None = field(
        default=None,
        metadata={"group": _RUNNING, "help": "processes that read and decode (default: one for each core)"},
    )
    ray: str = field(
        default="off",
        metadata={
            "group": _RUNNING,
            "help": "work by Ray: off, local (a private cluster on this machine), auto (the cluster that "
            "runs here or at RAY_ADDRESS), or a cluster's HOST:PORT (docs/cluster.md)",
            "metavar": "off|local|auto|ADDRESS",
        },
    )

    def __post_init__(self) -> None:
        if not self.src:
            raise UsageError("no source is given: name a folder or a zip file of images")
        for name in ("layout", "group_by", "near_duplicates", "codec", "color"):
            choices = self.__dataclass_fields__[name].metadata["choices"]
            value = getattr(self, name)
            if value not in choices and not (name == "codec" and value is None):
                raise UsageError(f"--{name.replace('_', '-')} {value!r}: allowed are {', '.join(choices)}")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers {self.workers}: at least 1 is needed; leave it out for one a core")
        self._check_ray()
        if self.split is not None:
            parse_ratios(self.split)
        self.scan_options(b"")  # its words are checked before anything is opened
        self.frame_step  # noqa: B018 - checked here, once
        self.quarantine_share  # noqa: B018 - likewise
        if self.layout == "table" and self.table is not None:
            return
        if self.table is not None and self.layout not in ("auto", "table"):
            raise UsageError(
                f"--table is given and --layout {self.layout} reads none: use --layout table, or auto"
            )
        if self.layout not in ("auto", "table") and (self.columns or self.keep_columns):
            raise UsageError(
                f"--columns and --keep-columns need a table, and --layout {self.layout} reads none"
            )

    def scan_options(self, digest_key: bytes) -> ScanOptions:
        """What shapes the sources of a file; ``digest_key`` is the key of the digests of files."""
        captures = self.layout == _SECONDARY_CAPTURES
        burned_in = "allow" if captures and self.burned_in == "refuse" else self.burned_in
        return ScanOptions(
            include=(*self.include, "sc") if captures else self.include,
            select=parse_conditions(self.select),
            burned_in="rules" if self.rules else burned_in,
            rules=self.rules,
            color="planes" if self.color == "planes" else "luma",
            anatomy=self.anatomy,
            accession="accession" in parse_roles(self.columns),
            digest_key=digest_key,
        )

    @cached_property
    def anatomy(self) -> AnatomyTable:
        """The words for body regions; UsageError where ``--anatomy-table`` is none."""
        return read_anatomy(self.anatomy_table) if self.anatomy_table else packaged()

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """What to keep of images that may show text, where ``--burned-in rules:FILE`` says it."""
        if self.burned_in.startswith(RULES):
            return read_rules(Path(self.burned_in.removeprefix(RULES)))
        if self.burned_in not in BURNED_IN:
            raise UsageError(
                f"--burned-in {self.burned_in!r}: allowed are {', '.join(BURNED_IN)} and {RULES}FILE"
            )
        return ()

    @property
    def on_shared_cluster(self) -> bool:
        """Whether the work goes to machines that others may use too."""
        return self.ray not in ("off", "local")

    def _check_ray(self) -> None:
        if self.dry_run and self.ray != "off":
            raise UsageError(
                f"--dry-run is given and --ray {self.ray}: a dry run reads headers with this machine's "
                "processes alone, since a cluster needs a folder to write in; leave --ray out"
            )
        host, _, port = self.ray.rpartition(":")
        if self.ray in ("off", "local", "auto") or (host and "/" not in host and port.isdecimal()):
            return
        raise UsageError(
            f"--ray {self.ray!r}: allowed are off, local, auto and HOST:PORT of a cluster's head; a driver "
            "outside of the cluster (ray://) cannot see what its nodes see: run the command on a node"
        )

    @property
    def frame_step(self) -> int:
        """Every how many frames of a multi-frame file one is stored, from the first; 1 is all, or all key."""
        word, _, number = self.frames.partition(":")
        if self.frames in ("all", "key"):
            return 1
        if word == "every" and number.isascii() and number.isdigit() and int(number) >= 1:
            return int(number)
        raise UsageError(f"--frames {self.frames!r}: allowed are all, key and every:N with N from 1 up")

    @property
    def quarantine_share(self) -> float:
        """``--max-quarantine`` as a fraction from 0 to 1."""
        text = self.max_quarantine.strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = math.nan
        if not 0 <= share <= 1:
            raise UsageError(
                f"--max-quarantine {self.max_quarantine!r} is no share of the images: give 0% to 100%, for "
                f"example 5%"
            )
        return share
