"""What a run tells of itself, in order: Encoded; Steps and Decoded, a batch at a time; Finished."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

from sumi.models.prompt import Notice
from sumi.models.sampling import Plan, Read
from sumi.request import Request
from sumi.store.images import save_png
from sumi.store.record import Record

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and what makes it again."""

    image: "Image"
    record: Record
    latent: Tensor
    """[C h w], float32."""

    @property
    def request(self) -> Request:
        """Of this picture alone: its `first` is the picture's number and its `count` is 1. Nothing in it is left open."""
        return self.record.request

    def save(self, path: str | Path) -> None:
        """Writes a PNG, whole or not at all, that carries the record (see `sumi.store.record`). OutputError if it cannot."""
        save_png(self.image, Path(path), self.record.texts())


@dataclass(frozen=True)
class Encoded:
    """The request is read. `request` has every default filled in; `plan` says what is to be done for each batch of pictures.

    `prompt` and `negative` say how each word was taken; `notices`, what the model could not take as it was meant, and what became of the
    pictures to go by.
    """

    request: Request
    plan: Plan
    prompt: tuple[Read, ...]
    negative: tuple[Read, ...]
    notices: tuple[Notice | str, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """A sampling step is done: number `index` of `total`, from 1, for the pictures numbered `images`, which share a batch.

    `sigma` [] is the noise level of the state `x` [B C h w]; `denoised` [B C h w] is the latent that the model expects.
    """

    index: int
    total: int
    images: range
    sigma: Tensor
    x: Tensor
    denoised: Tensor


@dataclass(frozen=True)
class Decoded:
    """The pictures of one batch."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Finished:
    """Every picture of the request, in order."""

    pictures: tuple[Picture, ...]


Event: TypeAlias = Encoded | Step | Decoded | Finished
