"""The text under the keyword `parameters` in a PNG, as A1111 writes it and many programs read it: a prompt, and fields as text.

    <prompt, of any number of lines>
    Negative prompt: <likewise; the line is absent if there is none>
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, ...

A reader takes the last line for fields if it finds three or more there, the first line that starts with "Negative prompt:" for the end of
the prompt, and removes white space at the ends of lines. So a prompt that holds such a line, or white space in such a place, is not read
back as it was; whatever else it holds ("Steps: 20" among it) is. For those few, `write` adds the fields `Prompt` and `Negative prompt`,
which A1111 itself lets overrule the lines above. Their commas and colons are escaped as JSON allows, for readers that split at every comma.

Source: `create_infotext` in modules/processing.py, `parse_generation_parameters` in modules/infotext_utils.py.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

_NEGATIVE = "Negative prompt:"
# A key starts where a run of its characters does: a search from each of them would take time quadratic in the length of the run.
_FIELD = re.compile(r'(?<![\w \-/])[ \-/]*+(\w[\w \-/]++):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_KEY = re.compile(r"\w[\w \-/]*[\w\-/]")
_FEWEST = 3

FIRST = (
    "Steps",
    "Sampler",
    "Schedule type",
    "CFG scale",
    "Image CFG scale",
    "Seed",
    "Face restoration",
    "Size",
    "Model hash",
    "Model",
    "VAE hash",
    "VAE",
    "Variation seed",
    "Variation seed strength",
    "Seed resize from",
    "Denoising strength",
    "Conditional mask weight",
    "Clip skip",
    "ENSD",
    "Token merging ratio",
    "Token merging ratio hr",
    "Init image hash",
    "RNG",
    "NGMS",
    "Tiling",
)
"""The fields that stand in front, in their order; others follow, and LAST end the line."""
LAST = ("Version", "User")


@dataclass(frozen=True)
class Infotext:
    """What the text says: prompts, and the fields in their order, unquoted."""

    prompt: str
    negative: str
    fields: Mapping[str, str]


def write(prompt: str, negative: str, fields: Mapping[str, str | int | float | None]) -> str:
    """The text that `read` takes apart into the same; fields that are None are left out, the others put in A1111's order.

    ValueError: fewer than three fields, which no reader would find, or a name that no reader would take for one.
    """
    given = {name: _spelled(value) for name, value in fields.items() if value is not None}
    for name in given:
        if not _KEY.fullmatch(name) or name in ("Prompt", _NEGATIVE[:-1]):
            raise ValueError(f"{name!r} cannot be the name of a field")
    if len(given) < _FEWEST:
        raise ValueError(f"the text needs {_FEWEST} fields or more; got {', '.join(given) or 'none'}")
    order = [*FIRST, *(name for name in given if name not in FIRST + LAST), *LAST]
    line = ", ".join(f"{name}: {_quoted(given[name])}" for name in order if name in given)
    words = f"{prompt}\n{_NEGATIVE} {negative}" if negative else prompt
    text = f"{words}\n{line}".strip()
    found = read(text)
    if (found.prompt, found.negative) != (prompt, negative):
        text += f", Prompt: {_escaped(prompt)}, {_NEGATIVE} {_escaped(negative)}"
    return text


def read(text: str) -> Infotext:
    """Takes apart what A1111 wrote, as A1111 does; never fails, for any text is at least a prompt.

    Where a field is given twice, the last counts. What A1111 assumes of fields that are missing is left to the caller.
    """
    *lines, last = text.strip().split("\n")
    found = _FIELD.findall(last)
    if len(found) < _FEWEST:
        lines, found = [*lines, last], []
    lines = [line.strip() for line in lines]
    end = next((i for i, line in enumerate(lines) if line.startswith(_NEGATIVE)), len(lines))
    prompt, negative = "\n".join(lines[:end]), "\n".join(line.removeprefix(_NEGATIVE).strip() for line in lines[end:])
    fields = {name: _unquoted(value) for name, value in found}
    return Infotext(fields.pop("Prompt", prompt), fields.pop(_NEGATIVE[:-1], negative), fields)


def _spelled(value: str | int | float) -> str:
    """A whole number without its point, as in "CFG scale: 7"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _quoted(value: str) -> str:
    """In quotation marks if it would not be read back without."""
    plain = value and value == value.strip() and not value.startswith('"') and not re.search("[,:\n]", value)
    return value if plain else json.dumps(value, ensure_ascii=False)


def _escaped(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace(",", r"\u002c").replace(":", r"\u003a")


def _unquoted(value: str) -> str:
    if value.startswith('"') and value.endswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            pass  # a value that only looks quoted is what it looks like
    return value
