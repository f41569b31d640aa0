"""Text that comes from files: made safe for terminals, web pages and tables."""

import json

# What a spreadsheet runs as a formula, with the full-width forms that some of them accept.
FORMULA_STARTS = tuple("=+-@＝＋－＠")
# What pandas and others read as a missing value.
MISSING_VALUES = {
    "", "#n/a", "#n/a n/a", "#na", "1.#ind", "1.#qnan", "<na>", "n/a", "na", "nan", "none", "null"
}  # fmt: skip


def printable(text: object) -> str:
    """Return a text with escapes, as in JSON, for all characters that are not printable.

    These are line breaks, escape sequences of terminals, marks that change the direction of the
    text, and bytes of a file name that are not UTF-8.
    """
    return "".join(char if char.isprintable() else _escape(char) for char in str(text))


def quote_name(name: str) -> str:
    """Return a name for a cell of a table: the name itself, or a JSON string if that is unsafe.

    A name is unsafe if it is empty or a word for a missing value, has characters that are not
    printable, a semicolon, or spaces around it, or starts as a formula or with a quotation mark.
    So a cell that starts with a quotation mark is a JSON string, and any other one is the name.
    """
    is_safe = (
        name.isprintable()
        and name.strip() == name
        and ";" not in name
        and name.lower() not in MISSING_VALUES
        and not name.startswith(('"', *FORMULA_STARTS))
    )
    if is_safe:
        return name
    is_plain = [char.isprintable() and char not in '"\\' for char in name]
    chars = [char if ok else _escape(char) for char, ok in zip(name, is_plain, strict=True)]
    return f'"{"".join(chars)}"'


def _escape(char: str) -> str:
    return json.dumps(char)[1:-1]
