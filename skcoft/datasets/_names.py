"""What the names of folders and files mean: a split, a label, a mask, or nothing."""

import re
from functools import lru_cache
from typing import Literal

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
NORMAL_WORDS = {"good", "io", "normal", "normals", "ok", "okay"}
ANOMALOUS_WORDS = {
    "abnormal", "anomalies", "anomalous", "anomaly", "bad", "broken", "damage", "damaged", "def",
    "defect", "defective", "defects", "failed", "faulty", "ko", "ng", "nio", "nok", "reject",
    "rejected", "rejects",
}  # fmt: skip
NEGATIONS = {"free", "no", "non", "not", "without"}
# words that do not change what a name says: "ok_front", "more_normal", "train_images"
NEUTRAL_WORDS = {
    "all", "back", "bmp", "bottom", "class", "data", "dataset", "examples", "front", "image",
    "images", "img", "imgs", "jpeg", "jpg", "left", "mixed", "more", "part", "parts", "photo",
    "photos", "pictures", "png", "private", "public", "right", "sample", "samples", "set", "side",
    "top",
}  # fmt: skip
# folders beside "good" that are no kind of anomaly: "new", "day 2", "camera1"
UNLABELLED_WORDS = {
    "batch", "cam", "camera", "day", "friday", "incoming", "lot", "misc", "monday", "new",
    "production", "raw", "saturday", "shift", "station", "sunday", "thursday", "todo", "tuesday",
    "uncertain", "unknown", "unlabeled", "unlabelled", "unsorted", "view", "wednesday", "week",
}  # fmt: skip
IMAGE_FOLDERS = {"image", "images", "img", "imgs", "rgb"}
MASK_WORDS = {
    "annotation", "annotations", "groundtruth", "gt", "mask", "masks", "segmentation",
    "segmentations",
}  # fmt: skip
# These hold masks or other modalities only if their files belong to images; else they are classes.
UNCERTAIN_MASK_FOLDERS = {"label", "labels"}
MODALITY_FOLDERS = {"depth", "infrared", "ir", "xyz"}
MASK_STEM = re.compile(
    r"(?P<prefix>(?:mask|gt)[_\-. ])?(?P<image>.+?)"
    r"(?P<suffix>[_\-. ](?:masks?|gt|labels?|seg|segmentation|annotation|ground_?truth))?",
    re.IGNORECASE,
)
memoized = lru_cache(maxsize=4096)  # a data set has few names of folders and many files
Role = Literal["image", "mask", "maybe mask", "other modality"]


def words_in(name: str) -> list[str]:
    """Return the words and numbers in a name, in lower case."""
    name = re.sub(r"ground[\W_]*truth", "groundtruth", name.casefold())
    name = re.sub(r"(?<=\b[a-z])\.(?=[a-z]\b)", "", name)  # n.g., i.o.
    return re.findall(r"[^\W\d_]+|\d+", name)


@memoized
def split_of_name(name: str) -> str:
    """Return the split that a folder name stands for, or ""."""
    words = words_in(name)
    splits = [SPLITS[word] for word in words if word in SPLITS]
    others = NORMAL_WORDS | ANOMALOUS_WORDS | NEUTRAL_WORDS | MASK_WORDS
    is_plain = all(word in SPLITS or word in others or word.isdigit() for word in words)
    return splits[0] if len(splits) == 1 and is_plain else ""


@memoized
def label_of_name(name: str) -> int:
    """Return +1 if a name says that images are normal, -1 if anomalous, 0 if neither."""
    words = set(words_in(name))
    is_normal, is_anomalous = bool(words & NORMAL_WORDS), bool(words & ANOMALOUS_WORDS)
    is_negated = bool(words & NEGATIONS)
    if is_normal == is_anomalous:
        return 0
    if is_anomalous and not is_negated:
        return -1
    plain = NORMAL_WORDS | ANOMALOUS_WORDS | NEGATIONS | NEUTRAL_WORDS | set(SPLITS)
    if not all(word in plain or word.isdigit() for word in words):
        return 0  # such as "good_but_scratched"
    return 1 if is_normal != is_negated else -1


def is_unlabelled_name(name: str) -> bool:
    """Whether a folder beside the normal images is not a kind of anomaly: "new", "2024-05-01"."""
    words = set(words_in(name))
    return bool(words & (UNLABELLED_WORDS | NORMAL_WORDS)) or all(w.isdigit() for w in words)


@memoized
def is_structural_name(name: str) -> bool:
    """Whether a folder only gives the split, or holds the images beside a folder of masks."""
    is_split = bool(split_of_name(name)) and not label_of_name(name)
    return is_split or name.casefold() in IMAGE_FOLDERS


@memoized
def role_of_name(name: str) -> Role:
    """Return what a folder holds by its name."""
    if name.casefold() in UNCERTAIN_MASK_FOLDERS:
        return "maybe mask"
    if name.casefold() in MODALITY_FOLDERS:
        return "other modality"
    words = words_in(name)
    if not set(words) & MASK_WORDS:
        return "image"
    plain = MASK_WORDS | ANOMALOUS_WORDS | NORMAL_WORDS | NEUTRAL_WORDS | set(SPLITS)
    is_plain = all(word in plain or word.isdigit() for word in words)
    # "defect_masks", "gt_bad", but neither "face_mask" nor "mask_defect"
    in_place = set(words[-1:]) & MASK_WORDS or words[0] in ("gt", "groundtruth")
    other = set(words) - MASK_WORDS - NEUTRAL_WORDS
    is_mask = is_plain and (in_place or not other or all(word.isdigit() for word in other))
    return "mask" if is_mask else "image"


def image_stem(stem: str) -> str:
    """Return the stem of the image that a mask belongs to: "3" for "3_mask"."""
    match = MASK_STEM.fullmatch(stem)
    return match["image"] if match else stem
