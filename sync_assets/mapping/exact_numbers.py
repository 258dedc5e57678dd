"""Numbers as exact text in one canonical spelling, as in JSON and without an exponent. Pure.

Floats lose digits, and Polars changed their spelling between versions (docs/dev/measurements.md F). So numbers with a
fraction stay the text that Dataverse sent; here that text gets one form, so that equal numbers get equal hashes.
"""

import re
from decimal import Decimal, InvalidOperation

import polars as pl

_NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?$"


def canonical(numbers: pl.DataFrame) -> pl.DataFrame:
    """Make numbers canonical: `20000.0000` -> `20000`, `1.50` -> `1.5`, `1E+3` -> `1000`, `-0.0` -> `0`.

    Null for a value that is no number. All columns are processed together in a few steps, because each step waits for
    the interpreter lock, which other threads need as well.
    """
    if not numbers.width:
        return numbers
    texts = [pl.col(name).cast(pl.String) for name in numbers.columns]
    valid = numbers.select(pl.when(text.str.contains(_NUMBER)).then(text) for text in texts)
    exponents = valid.select(pl.all().str.contains("[eE]").any()).row(0, named=True)
    for name in (name for name, any_ in exponents.items() if any_):
        spelt = valid[name].filter(valid[name].str.contains("[eE]")).unique().to_list()
        valid = valid.with_columns(pl.col(name).replace(dict(zip(spelt, map(canonical_text, spelt), strict=True))))
    return valid.select(_trimmed(pl.col(name)).alias(name) for name in valid.columns)


def canonical_text(value: str | int | float | Decimal) -> str | None:
    """Return one value in canonical spelling, e.g. of the configuration; None if it is no number."""
    if isinstance(value, str):
        value = re.sub(r"^\+(?=[0-9])", "", value)
        if not re.match(_NUMBER, value):
            return None
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if re.fullmatch(r"-0+", text) else text


def _trimmed(text: pl.Expr) -> pl.Expr:
    fraction = text.str.contains(".", literal=True)
    short = pl.when(fraction).then(text.str.strip_chars_end("0").str.strip_chars_end(".")).otherwise(text)
    return pl.when(short == "-0").then(pl.lit("0")).otherwise(short)
