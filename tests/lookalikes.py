"""Trees as the authors of public data sets lay them out: their names and columns, our pixels."""

import json
import warnings
from pathlib import Path

import numpy as np
import pydicom
from archives import dicom, npy, pixels, png, table
from PIL import Image
from pydicom.uid import SecondaryCaptureImageStorage


def jpeg(path, image) -> Path:
    """Write a grey JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, "JPEG")
    return path


def square(top, left, size=4, shape=(16, 20), value=255):
    """A mask of one square."""
    mask = np.zeros(shape, np.uint8)
    mask[top : top + size, left : left + size] = value
    return mask


def radimagenet(root, *, lists=True) -> Path:
    """The release: eight images of three modalities, and its lists unless ``lists`` is False."""
    names = {
        "CT/abd/normal/abd-normal039513.png": ("abd-normal", "train"),
        "CT/lung/Nodule/lung009382.png": ("lung-Nodule", "val"),
        "MR/af/Plantar_plate_tear/foot040499.png": ("af-Plantar_plate_tear", "train"),
        "MR/shoulder/ca++_tendinosis/s1.png": ("shoulder-ca++_tendinosis", "test"),
        "MR/abd/liver_disease_/m1.png": ("mriabd-liver_disease_", "train"),
        "US/gb/usn309850.png": ("usabd-gb", "train"),
        "US/thyroid_nodule/usn1.png": ("usthyroid-thyroid_nodule", "test"),
    }
    rows = {"train": [], "val": [], "test": []}
    for seed, (name, (label, split)) in enumerate(names.items()):
        png(root / "radiology_ai" / name, pixels(seed))
        rows[split].append(f"radiology_ai/{name},{label}")
    for split, its in rows.items() if lists else ():
        table(root / f"RadiologyAI_{split}.csv", "\n".join(["filename,label", *its, ""]))
    return root


def busi(root) -> Path:
    """Two images a class; one has two masks, one a mask in colour with alpha, the normals empty ones."""
    folder = root / "Dataset_BUSI_with_GT"
    for seed, label in enumerate(("benign", "malignant", "normal")):
        for number in (1, 2):
            name = f"{label}/{label} ({number})"
            png(folder / f"{name}.png", pixels(10 * seed + number))
            mask = square(2, 3) if label != "normal" else square(0, 0, 0)
            png(folder / f"{name}_mask.png", mask)
    png(folder / "benign/benign (1)_mask_1.png", square(9, 12))
    rgba = np.dstack([square(5, 5)] * 3 + [np.full((16, 20), 255, np.uint8)])
    Image.fromarray(rgba).save(folder / "malignant/malignant (2)_mask.png")
    return root


def ddti(root, *, bad="") -> Path:
    """Three cases: two images of one nodule each, two nodules on one image, no TI-RADS.

    ``bad`` replaces the file of the second case.
    """
    box = [{"x": 2, "y": 3}, {"x": 8, "y": 3}, {"x": 8, "y": 7}, {"x": 2, "y": 7}]
    other = [{"x": 12, "y": 1}, {"x": 16, "y": 1}, {"x": 16, "y": 4}, {"x": 12, "y": 4}]

    def case(number, tirads, marks):
        lines = "".join(
            f"<mark><image>{image}</image><svg>"
            f"{json.dumps([{'points': p, 'annotation': {}, 'regionType': 'freehand'} for p in its])}"
            "</svg></mark>"
            for image, its in marks.items()
        )
        return (
            f'<?xml version="1.0"?><case><number>{number}</number><age>49</age><sex>F</sex>'
            f"<composition>solid</composition><tirads>{tirads}</tirads><reportbacaf/>{lines}</case>"
        )

    table(root / "1.xml", case(1, "4A", {1: [box], 2: [box]}))
    table(root / "2.xml", bad or case(2, "2", {1: [box, other]}))
    table(root / "10.xml", case(10, "", {1: [box]}))
    for seed, name in enumerate(("1_1", "1_2", "2_1", "10_1")):
        jpeg(root / f"{name}.jpg", pixels(seed))
    return root


def mrnet(root) -> Path:
    """Two exams of train and one of valid, three planes each, two or three slices."""
    seed = 0
    for folder, exams in (("train", ("0000", "0001")), ("valid", ("1130",))):
        for exam in exams:
            for plane in ("axial", "coronal", "sagittal"):
                seed += 1
                stack = np.stack([pixels(100 * seed + n) for n in range(2 + seed % 2)])
                npy(root / "MRNet-v1.0" / folder / plane / f"{exam}.npy", stack)
    answers = {
        "abnormal": {"0000": 1, "0001": 0, "1130": 1},
        "acl": {"0000": 0, "0001": 0, "1130": 1},
        "meniscus": {"0000": 1, "0001": 0, "1130": 0},
    }
    for finding, its in answers.items():
        for folder, exams in (("train", ("0000", "0001")), ("valid", ("1130",))):
            lines = "".join(f"{exam},{its[exam]}\n" for exam in exams)
            table(root / "MRNet-v1.0" / f"{folder}-{finding}.csv", lines)
    return root


def rsna_pneumonia(root, *, classes=True) -> Path:
    """Three radiographs as secondary captures: two boxes, none, none; and one of the test set."""
    names = ("0004cfab", "00313ee0", "00322d4d")
    for n, name in enumerate((*names, "fffff")):
        folder = "stage_2_train_images" if n < 3 else "stage_2_test_images"
        dicom(
            root / folder / f"{name}.dcm",
            pixels(n, dtype=np.int16),
            uid=f"1.2.276.{n}",
            patient=name,
            study=f"1.2.1.{n}",
            series=f"1.2.2.{n}",
            SOPClassUID=SecondaryCaptureImageStorage,
            Modality="CR",
            ImageType=["DERIVED", "SECONDARY"],
        )
    lines = [
        "patientId,x,y,width,height,Target",
        f"{names[0]},1.0,2.0,5.0,4.0,1",
        f"{names[0]},10.0,2.0,3.0,6.0,1",
        f"{names[1]},,,,,0",
        f"{names[2]},,,,,0",
    ]
    table(root / "stage_2_train_labels.csv", "\n".join([*lines, ""]))
    if classes:
        its = ("Lung Opacity", "Lung Opacity", "No Lung Opacity / Not Normal", "Normal")
        rows = [f"{name},{label}" for name, label in zip((names[0], *names), its, strict=True)]
        table(root / "stage_2_detailed_class_info.csv", "\n".join(["patientId,class", *rows, ""]))
    return root


def rsna_ich(root) -> Path:
    """Three slices of two patients, UIDs as published, one row twice; one slice of the test set."""
    shown = {"ID_0a1": {"subdural", "epidural", "any"}, "ID_0a2": set(), "ID_0b1": {"subarachnoid", "any"}}
    lines = ["ID,Label"]
    kinds = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
    for n, name in enumerate((*shown, "ID_fff")):
        folder = "stage_2_train" if name in shown else "stage_2_test"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # these are no UIDs, and pydicom says so
            file = dicom(
                root / folder / f"{name}.dcm",
                pixels(n, dtype=np.int16),
                uid=name,
                patient=f"ID_{name[3:5]}",
                study=f"ID_study{name[3:5]}",
                series=f"ID_series{name[3:5]}",
            )
            dataset = pydicom.dcmread(file)
            del dataset.SOPClassUID  # the file meta alone names the class
            dataset.save_as(file)
        if name in shown:
            lines += [f"{name}_{kind},{int(kind in shown[name])}" for kind in kinds]
    table(root / "stage_2_train.csv", "\n".join([*lines, lines[1], ""]))
    return root


def covid_ct(root, *, meta=True, lists=True) -> Path:
    """Six figures of four patients, with the authors' lists and tables unless told otherwise."""
    images = {
        ("COVID", "2020.02.10-p6-52%0.png"): ("Patient 2", "train"),
        ("COVID", "2020.02.10-p6-52%1.png"): ("Patient 2", "train"),
        ("COVID", "2020.03.04-p23-97.png"): ("Patient 5", "test"),
        ("NonCOVID", "0.jpg"): ("Patient 2", "val"),
        ("NonCOVID", "1%1.jpg"): ("patient 7", "train"),
    }
    for seed, (label, name) in enumerate(images):
        write = png if name.endswith("png") else jpeg
        write(root / "Images-processed" / f"CT_{label}" / name, pixels(seed))
    for label, head in (("COVID", "File name,Patient ID"), ("NonCOVID", "image name,patient id")):
        its = {name: facts for (of, name), facts in images.items() if of == label}
        rows = [f"{name},{patient}" for name, (patient, _) in its.items()]
        if meta:
            table(
                root / f"{'' if label == 'COVID' else 'Non'}COVID-CT-MetaInfo.csv",
                "\n".join([head, *rows]),
            )
        for split in ("train", "val", "test") if lists else ():
            names = [name for name, (_, its_split) in its.items() if its_split == split]
            table(root / "Data-split" / label / f"{split}CT_{label}.txt", "\n".join([*names, ""]))
    return root


def cc_ccii(root) -> Path:
    """Scans of four patients, and the set of lesion masks: background, lung, ground glass, consolidation."""
    scans = ("NCP/1001/2001", "NCP/1001/2002", "CP/1100/3100", "Normal/1200/3200", "NCP/1002/2003")
    for n, scan in enumerate(scans):
        for slice_ in range(2):
            suffix = "PNG" if n == 4 else "png"  # as some scans of the release
            png(root / scan / f"IMG_{slice_:04d}.{suffix}", pixels(10 * n + slice_))
    for n in range(2):
        jpeg(root / "ct_lesion_seg/image/5" / f"{n}.jpg", pixels(500 + n))
        values = square(2, 2, 10, value=1)
        values[4:6, 4:8] = 2
        values[6:7, 4:8] = 3
        png(root / "ct_lesion_seg/mask/5" / f"{n}.png", values)
    return root
