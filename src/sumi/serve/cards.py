"""What a model is and takes, told to those who choose one."""

from dataclasses import dataclass, replace
from typing import Any

from sumi.config import BertConfig, ModelSpec
from sumi.errors import RequestError
from sumi.request import Request
from sumi.resolve.serves import DEPENDS, needs, serves
from sumi.store.layout import reads_words

GIVEN: dict[str, Any] = {
    "image": "data:",
    "mask": "data:",
    "outpaint": (64, 64, 64, 64),
    "map": "data:",
    "low_res": "data:",
    "depth": "data:",
    "like": "data:",
    "label": "0",
    "level": 0,
    "image_guidance": 1.5,
    "hires": 2.0,
}
"""Fields that not every model takes, with a value that they may have."""
BACKGROUND = "background"
"""What is none of a map's classes."""


@dataclass(frozen=True)
class Card:
    """A model at a glance; all of it can be written as JSON.

    title: what it calls itself. width, height, steps, guidance, sampler, spacing: its own, where none are asked for; multiple: of which
    sides are. takes: those of `GIVEN` that a request may give it; needs: those that it has to. labels: what `label` may say. map_classes:
    names of the classes of a map, by their numbers. prompt: whether it reads words, and tokens: how many it reads at once.
    """

    title: str
    width: int
    height: int
    multiple: int
    steps: int
    guidance: float
    sampler: str
    spacing: str
    takes: tuple[str, ...]
    needs: tuple[str, ...]
    labels: tuple[str, ...]
    map_classes: tuple[str, ...]
    prompt: bool
    tokens: int

    @classmethod
    def of(cls, spec: ModelSpec, title: str, length: int | None = None) -> "Card":
        """Of a model. length: ids that its tokenizer makes of a text, where that is not as many as its text encoder reads."""
        height, width = spec.size
        text = spec.text if not isinstance(spec.text, BertConfig) or reads_words(spec.text) else None
        required = tuple(field for _, field in needs(spec) if field is not None)
        return cls(
            title=title,
            width=width,
            height=height,
            multiple=spec.multiple,
            steps=spec.steps,
            guidance=spec.guidance,
            sampler=spec.sampler,
            spacing=spec.spacing,
            takes=tuple(name for name in GIVEN if _takes(spec, name, required)),
            needs=required,
            labels=() if spec.label is None else spec.classes or _numbers(spec.label.classes),
            map_classes=() if spec.map is None else (BACKGROUND, *spec.classes) if spec.classes else _numbers(spec.map.classes),
            prompt=text is not None,
            # Two of them frame the text.
            tokens=0 if text is None else (length or text.length) - 2,
        )


def _takes(spec: ModelSpec, name: str, required: tuple[str, ...]) -> bool:
    """Whether any request with such a field, and with what the model and the field need, can be served."""
    for other in DEPENDS.get(name, (name,)):
        given = {field: GIVEN[field] for field in (*required, other, name)}
        try:
            serves(spec, replace(Request(), **given))
        except RequestError:
            continue
        return True
    return False


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
