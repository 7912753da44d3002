"""Everything that can go wrong, as one tree; each branch carries the exit code that a shell sees.

    PyradError                      1   anything else: a full disk, our own bugs
    |- MissingDependencyError       1   an optional package is missing; says the command that installs it
    |- StoreBusyError               1   another process is writing this store
    |- StoppedError           130, 143  stopped by Ctrl-C or SIGTERM at a point from which it can go on
    |- UsageError                   2   an option, column, path or label that cannot be what was meant
    |  `- NotAStoreError            2   the path is no pyrad store
    |- QuarantineBudgetError        4   too many inputs were quarantined; nothing was committed
    |- IntegrityError               5   a store or checkpoint is damaged
    |  `- CorruptChunkError         5   one chunk of one array is damaged
    `- RefusedError                 6   refused for safety
       |- SecretError               6   the secret is absent or is not the one the store was made with
       `- UnsafeArchiveError        6   a zip that climbs out of its folder or inflates without end

Exit code 3 (finished, some inputs quarantined) is an outcome, not an error. A message says what, where,
the value, what is allowed and the next step, and never carries a value that could identify a patient.
"""


class PyradError(Exception):
    """Base of every error that pyrad raises on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 1


class MissingDependencyError(PyradError):
    """An optional dependency is not installed; the message holds the command that installs it."""


class StoreBusyError(PyradError):
    """Another process holds the store's writer lock."""


class StoppedError(PyradError):
    """A signal came, and the work so far is saved; ``exit_code`` is 128 and the signal's number."""

    def __init__(self, message: str, *, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class UsageError(PyradError):
    """What was asked for cannot be done as asked: an unknown option, column, label or path."""

    exit_code = 2


class NotAStoreError(UsageError):
    """The path holds no pyrad store (there is no root ``zarr.json`` with a pyrad manifest)."""


class QuarantineBudgetError(PyradError):
    """More image candidates were quarantined than ``--max-quarantine`` allows; nothing was committed."""

    exit_code = 4


class IntegrityError(PyradError):
    """A store or a checkpoint does not hold what its manifest promises."""

    exit_code = 5


class CorruptChunkError(IntegrityError):
    """A chunk failed its checksum or its bounds checks."""


class RefusedError(PyradError):
    """Refused for safety: limits, a pickle, a wrong preprocessing contract."""

    exit_code = 6


class SecretError(RefusedError):
    """The secret is absent where it is due, or is not the one the store was made with."""


class UnsafeArchiveError(RefusedError):
    """A zip archive names paths outside itself or inflates past its limits."""
