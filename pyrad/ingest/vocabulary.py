"""Text of a header -> a word of an allow-list, or nothing: no free text enters a store.

A scanner's operator can type a name into almost any field; only words that stand here pass.
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# PS3.3 C.7.3.1.1.1, those that occur in the stored object classes
MODALITIES = _words("CT MR US CR DX MG OT NM PT XA RF IO PX SC TG BMD OP ES XC IVUS OPT OCT")

# PS3.16 Table L-1 (Body Part Examined), and what scanners write beside it, blanks and punctuation removed
_ANATOMY = _words(
    """
    abdomen abdomenpelvis adrenal adrenals ankle anklejoint anus aorta aorticarch appendix arm artery
    axilla back bileduct bladder brain brainstem breast bronchus buttock calcaneus calf cardiac carotid
    cerebellum cervix cheek chest chestabdomen chestabdpelvis clavicle coccyx colon cornea cspine
    ctspine duodenum ear elbow elbowjoint entirebody esophagus extremity eye eyelid face femur fetus
    finger foot forearm gallbladder hand head headneck heart hip hipjoint humerus iac ileum ilium
    innerear intestine jaw jejunum kidney knee kneejoint larynx leg lefthand legs liver lowerextremity
    lowerleg lowerlimb lspine lsspine lumbar lumbarspine lung lungs mandible maxilla mediastinum
    metatarsus mouth neck neckchest neckchestabdomen neckchestabdpelv nose orbit orbits ovary pancreas
    parathyroid parotid patella pelvis penis pharynx pituitary placenta prostate rectum ribs scalp
    scapula sacrum sccjoint scrotum sella shoulder shoulderjoint sijoint sinus sinuses skull spine
    spleen sspine sternum stomach subclavian submandibular teeth testis thigh thorax thumb thymus
    thyroid tibiafibula toe tongue trachea tspine ulna upperarm upperextremity upperlimb ureter urethra
    uterus vagina vulva wholebody wrist wristjoint zygoma
    """
)

_VIEWS = _words("AP PA LL RL LLD RLD LLO RLO LAT LATERAL OBL AXIAL CC MLO ML LM LMO FB XCC XCCL XCCM SIO")
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


def anatomy(text: str) -> str | None:
    """``Body Part Examined`` or a code's meaning, in lower case without blanks, if it is a body part."""
    word = re.sub(r"[ _\-/.,&]+", "", text.lower())
    return word if word in _ANATOMY else None


def laterality(text: str) -> str | None:
    """R, L, B (both) or U (unpaired)."""
    return text if text in {"R", "L", "B", "U"} else None


def view(text: str) -> str | None:
    """``View Position``, where it is a known term."""
    return text if text in _VIEWS else None


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
