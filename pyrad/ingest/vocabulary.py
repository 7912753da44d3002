"""Text of a header -> a word of an allow-list, or nothing: no free text enters a store.

A scanner's operator can type a name into almost any field; only words that stand here pass.
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# PS3.3 C.7.3.1.1.1, those that occur in the stored object classes
MODALITIES = _words("CT MR US CR DX MG OT NM PT XA RF IO PX SC TG BMD OP ES XC IVUS OPT OCT")

LATERALITIES = _words("R L B U")  # right, left, both, unpaired
VIEWS = _words("AP PA LL RL LLD RLD LLO RLO LAT LATERAL OBL AXIAL CC MLO ML LM LMO FB XCC XCCL XCCM SIO")
# PS3.16 CID 4014, by code value (SNOMED CT and the retired SRT)
_VIEW_CODES = {
    "399162004": "CC",
    "R-10242": "CC",
    "399368009": "MLO",
    "R-10226": "MLO",
    "399260004": "ML",
    "R-10224": "ML",
    "399352003": "LM",
    "R-10228": "LM",
}

_MANUFACTURERS = _words(
    """
    ACUSON AGFA ALOKA ANALOGIC BRUKER CANON CARESTREAM ESAOTE FONAR FUJI FUJIFILM GE HITACHI HOLOGIC
    KODAK KONICA LORAD MARCONI MINDRAY NEUSOFT PHILIPS PICKER PLANMECA SAMSUNG SHIMADZU SIEMENS SONOSITE
    TOSHIBA UIH UNITED VAREX
    """
)
_WORD = re.compile(r"[A-Z]+")


def modality(text: str) -> str | None:
    """``Modality`` (CS), where it is a defined term."""
    return text if text in MODALITIES else None


def laterality(text: str) -> str | None:
    """A word of ``LATERALITIES``."""
    return text if text in LATERALITIES else None


def view(text: str) -> str | None:
    """``View Position``, where it is a known term."""
    return text if text in VIEWS else None


def view_of_code(code: str) -> str | None:
    """The mammographic view that a code of ``View Code Sequence`` names."""
    return _VIEW_CODES.get(code)


def sex(text: str) -> str | None:
    """M, F or O (other)."""
    return text if text in {"M", "F", "O"} else None


def age_band(text: str) -> str | None:
    """``Patient's Age`` (AS, as in 063Y, 006M) -> a decade, "60-69", or "90+"; PS3.5 6.2."""
    match = re.fullmatch(r"(\d{2,3})([DWMY])", text)
    if not match:
        return None
    years = int(int(match[1]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[match[2]])
    decade = years // 10 * 10
    return "90+" if decade >= 90 else f"{decade}-{decade + 9}"


def manufacturer(text: str) -> str | None:
    """The first word of ``Manufacturer`` in upper case, where it is a known maker."""
    match = _WORD.match(text.upper().replace("G.E.", "GE"))
    return match[0] if match and match[0] in _MANUFACTURERS else None
