"""Ground truth and paths beside the images of a sample, which must not become evidence."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .items import is_gap, is_path

# words in the names of masks and labels, and their beginnings
GROUND_TRUTH = re.compile(r"(\w*masks?|gt|\w*truth|labels?\w*|targets?|seg|segment\w*|annot\w*)")
FILE_NAME = re.compile(r"(image|img)?(file|filename|filepath|name|path|uri|url)+")


def words_of(name: str) -> list[str]:
    """Return the words of a name such as ground_truth, GroundTruth or image.path."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def is_ground_truth(name: Any) -> bool:
    """Whether a name is one that data sets use for masks or labels."""
    return isinstance(name, str) and any(map(GROUND_TRUTH.fullmatch, words_of(name)))


def select_items(names: list[Any]) -> str:
    """Return the line that selects images by name from a list of mappings."""
    if len(names) == 1:
        return f"[item[{names[0]!r}] for item in X]"
    return f"[{{name: item[name] for name in {names}}} for item in X]"


def select_columns(names: list[Any]) -> str:
    """Return the line that selects columns by name from a mapping or a data frame."""
    if len(names) == 1:
        return f"X[{names[0]!r}]"
    return f"{{name: X[name] for name in {names}}}"


def refuse_ground_truth(
    names: Iterable[Any], values: Mapping[Any, Any], in_columns: bool = False
) -> None:
    """Raise ValueError if the names of modalities are those of masks, labels or paths.

    Parameters
    ----------
    names : iterable
        Names of the modalities.
    values : mapping
        Values of the first sample, by name; empty if they are not known.
    in_columns : bool, default=False
        Whether X is a mapping or a data frame; otherwise it is a list of samples.
    """
    names = list(names)
    paths = [name for name in names if _is_path_of_others(name, values)]
    asked = [name for name in names if is_ground_truth(name) or name in paths]
    if not asked:
        return
    name, select = asked[0], select_columns if in_columns else select_items
    what = "a path beside the images" if name in paths else "a usual name of ground truth"
    images = [other for other in names if other not in asked]
    advice = f"Pass the images without it, {select(images)}. " if images else ""
    renamed = {other: f"image_{i}" if other in asked else other for i, other in enumerate(names)}
    item = "X" if in_columns else "item"
    pairs = ", ".join(f"{new!r}: {item}[{old!r}]" for old, new in renamed.items())
    line = f"{{{pairs}}}" if in_columns else f"[{{{pairs}}} for item in X]"
    raise ValueError(
        f"X holds several images per sample, named {names}, and {name!r} is {what}. It would "
        f"count as evidence. {advice}If it is a photograph of the part, rename it, {line}."
    )


def _is_path_of_others(name: Any, values: Mapping[Any, Any]) -> bool:
    """Whether a value is a path, or None, beside images in memory, by its name too."""
    value = values.get(name, 0)
    if not isinstance(name, str) or not (is_path(value) or value is None):
        return False
    others = [value for other, value in values.items() if other != name and not is_gap(value)]
    is_named_so = FILE_NAME.fullmatch("".join(words_of(name)))
    is_flattened = f"{name.removesuffix('path')}bytes" in values  # stored images in two columns
    return bool(is_named_so or is_flattened) and not any(map(is_path, others))
