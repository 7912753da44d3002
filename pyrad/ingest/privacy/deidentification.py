"""The options of a store's parts -> how its images were de-identified, in the terms of DICOM PS3.15."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# PS3.16 CID 7050, De-identification Method: the profile and its options (PS3.15 E.2, E.3), what pyrad does of
# each. The answers to Clean Pixel Data and Clean Descriptors depend on options.
_PIXELS = "113101"
_DESCRIPTORS = "113105"
METHODS = (
    (
        "113100",
        "Basic Application Confidentiality Profile",
        (
            "Gone beyond in attributes: no DICOM data set is kept. What remains is the columns below, each "
            "from an allow-list; identifiers are replaced by keyed hashes (HMAC-SHA256); private elements, "
            "overlays, icons and preambles are dropped."
        ),
    ),
    (_PIXELS, "Clean Pixel Data Option", ""),
    (
        "113102",
        "Clean Recognizable Visual Features Option",
        "Not applied. Faces are not removed: a head may be recognised from a volume.",
    ),
    (
        "113103",
        "Clean Graphics Option",
        "Not needed: graphics, overlays and annotations are dropped, not cleaned.",
    ),
    (
        "113104",
        "Clean Structured Content Option",
        "Not needed: structured reports are not stored.",
    ),
    (_DESCRIPTORS, "Clean Descriptors Option", ""),
    (
        "113106",
        "Retain Longitudinal Temporal Information Full Dates Option",
        "Not applied: no date and no time is kept.",
    ),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option", "Not applied: likewise."),
    (
        "113108",
        "Retain Patient Characteristics Option",
        "Applied in part: sex (M, F, O) and age in bands of ten years (90 and above in one). Nothing else.",
    ),
    (
        "113109",
        "Retain Device Identity Option",
        "Not applied: of the device, only the maker's name is kept, where it is on a fixed list.",
    ),
    (
        "113110",
        "Retain UIDs Option",
        "Not applied: studies, series and images have keyed hashes, equal for equal UIDs under one secret.",
    ),
    ("113111", "Retain Safe Private Option", "Not applied: no private element is kept."),
    ("113112", "Retain Institution Identity Option", "Not applied."),
)

_FIXED_WORDS = "Not needed: free text is dropped. Anatomy, view and laterality are words of a fixed list."
_OWN_WORDS = (
    "Not needed: free text is dropped. View and laterality are words of a fixed list; anatomy is a word of "
    "one, or of the user's own table (`--anatomy-table`)."
)

_BURNED_IN = {  # what promises least comes last
    "refuse": (
        "Not applied: no pixel was changed. Objects that declare burned-in text were skipped, and ultrasound "
        "and secondary captures that do not declare to be free of it; the rest relies on what "
        "headers declare."
    ),
    "crop-us-region": (
        "Applied in part: of ultrasound with one region, only the region was kept, which may itself "
        "hold text. "
        "Other objects that declare text, or ultrasound and secondary captures that do not declare "
        "to be free "
        "of it, were skipped."
    ),
    "rules": (
        "Applied in part: rectangles were kept or blanked by rules of the user (recorded in the manifest). "
        "What no rule matched was skipped where it declares text, and ultrasound and secondary "
        "captures where "
        "they do not declare to be free of it."
    ),
    "allow": (
        "Not applied, and not provided for: objects were stored whatever they declare. Names may "
        "stand in the "
        "pixels."
    ),
}
_UNKNOWN = "Unknown: the manifest does not say what was done about burned-in text."
_SENTENCES = {"": _UNKNOWN, **dict(reversed(_BURNED_IN.items()))}

STATEMENT = (
    "**Pseudonymised, not anonymous.** No name, identifier, date or free text of a header is in the "
    "store, and "
    "its keys lead nowhere without its secret. But the pixels are the patients' own: whoever has an image "
    "elsewhere can find it here again; whoever has the secret and a list of patients can tell their groups; "
    "faces are not removed. Treat it as personal data."
)


Parts = Mapping[str, Mapping[str, Any]]  # a part's number -> the options that the manifest has of it


def methods(parts: Parts) -> Iterator[tuple[str, str, str]]:
    """(code, meaning, what was done) of the profile and each of its options, in every part of a store."""
    own_words = any(options.get("anatomy_table") for options in parts.values())
    answers = {_PIXELS: _pixels(parts), _DESCRIPTORS: _OWN_WORDS if own_words else _FIXED_WORDS}
    for code, meaning, done in METHODS:
        yield code, meaning, answers.get(code, done)


def _pixels(parts: Parts) -> str:
    """What was done about text in the pixels; where parts differ, the weakest answer first."""
    by_policy: dict[str, list[str]] = {}
    for number, options in parts.items():
        policy = str(options.get("burned_in"))
        by_policy.setdefault(policy if policy in _BURNED_IN else "", []).append(number)
    answers = [(by_policy[policy], text) for policy, text in _SENTENCES.items() if policy in by_policy]
    if len(answers) == 1:
        return answers[0][1]
    return " ".join(f"Part {', '.join(numbers)}: {text}" for numbers, text in answers)


def copied_texts(parts: Parts) -> Iterator[str]:
    """What entered as somebody wrote it, and so must be vouched for by somebody."""
    columns = {name: None for options in parts.values() for name in options.get("keep_columns", ())}
    if columns:
        kept = ", ".join(f"`{name}`" for name in columns)
        yield f"The columns {kept} were copied from a table as they are (`--keep-columns`)."
    if any(options.get("anatomy_table") for options in parts.values()):
        yield "Words of `anatomy` may be those of the user's own table, as they are (`--anatomy-table`)."
    yield "Labels are the words of the label table or the names of the folders, as they are."
