"""The names of windows -> windows in HU, and which of them is usual for which anatomy: for CT."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pyrad.errors import UsageError
from pyrad.records import Window

Asked = str | int | Window  # a name, the number of one of an image's own windows, or a window

# Source: the table of "Windowing (CT)", Radiopaedia.org; subdural is the middle of its range.
PRESETS: Mapping[str, Window] = MappingProxyType(
    {
        "lung": Window(center=-600.0, width=1500.0),
        "brain": Window(center=40.0, width=80.0),
        "bone": Window(center=400.0, width=1800.0),
        "abdomen": Window(center=50.0, width=400.0),
        "subdural": Window(center=75.0, width=215.0),
        "mediastinum": Window(center=50.0, width=350.0),
    }
)
NAMES = ("auto", "anatomy", *PRESETS)

_ANATOMIES = {
    "lung": "chest lung bronchus trachea",
    "brain": "brain brainstem cerebellum circleofwillis head pituitary sella",
    "mediastinum": "mediastinum aorta aorticarch coronaryartery esophagus heart neck thymus",
    "abdomen": (
        "abdomen abdomenpelvis adrenal appendix bileduct bladder chestabdomen chestabdpelvis colon duodenum "
        "gallbladder ileum intestine jejunum kidney liver neckchestabdomen neckchestabdpelv ovary pancreas "
        "pelvis prostate rectum retroperitoneum spleen stomach ureter uterus"
    ),
    "bone": (
        "ankle anklefoot arm calcaneus clavicle coccyx cspine ctspine elbow extremity femur finger foot "
        "forearm hand hip humerus iac ilium innerear jaw knee leg lowerextremity lowerleg lspine lsspine "
        "mandible maxilla metatarsus patella rib scapula sccjoint shoulder sijoint sinus skull spine sspine "
        "sternum teeth thigh tibiafibula thumb tlspine tmj toe tspine ulna upperarm "
        "upperextremity wrist zygoma"
    ),
}
BY_ANATOMY: Mapping[str, str] = MappingProxyType(
    {anatomy: preset for preset, words in _ANATOMIES.items() for anatomy in words.split()}
)


def window_of(text: str) -> Asked | tuple[Asked, ...]:
    """What a word of a command line asks for: a name, a number, or three of them with commas between.

    Raises:
        UsageError: a part of it is neither.

    """
    parts = tuple(_window_of(part.strip()) for part in text.split(","))
    return parts if len(parts) > 1 else parts[0]


def _window_of(text: str) -> str | int:
    if text.isascii() and text.isdigit():
        return int(text)
    if text not in NAMES:
        raise UsageError(
            f"window {text!r} is none of {', '.join(NAMES)}, and no number of one of an image's own windows "
            "(0 is the first)"
        )
    return text
