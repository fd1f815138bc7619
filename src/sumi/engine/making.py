"""Between a worker, which knows jobs and no pictures, and a maker, which knows pictures and no queue."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from sumi.engine.job import Failure, Job

Telling: TypeAlias = Callable[[int, int], None]
"""Told that a step of steps is done; what it raises ends the work."""
Story: TypeAlias = Callable[[Path, Telling], object]
"""Writes a page to a path, and tells of its steps."""


@dataclass(frozen=True)
class Moment:
    """A step of steps is done, of the jobs at these places; 0 is before the first. previews: a small PNG of what each will show."""

    places: tuple[int, ...]
    step: int
    steps: int
    previews: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Note:
    """Something to say of how the job at a place is made."""

    place: int
    text: str


@dataclass(frozen=True)
class Drawn:
    """A picture, of so many pixels: what writes it to a path, and what writes a small one of it (`thumbnail`)."""

    width: int
    height: int
    save: Callable[[Path], object]
    thumbnail: Callable[[Path], object]


@dataclass(frozen=True)
class Made:
    """The pictures of the job at a place. story: of a job that is to be seen, what writes its page."""

    place: int
    pictures: tuple[Drawn, ...]
    story: Story | None = None


@dataclass(frozen=True)
class Spoiled:
    """Numbers that are not finite, or a black picture, in place of the job's: greater precision may help."""

    place: int


@dataclass(frozen=True)
class Refused:
    """The job at a place cannot be done."""

    place: int
    why: Failure


Happening: TypeAlias = Moment | Note | Made | Spoiled | Refused


class Maker(Protocol):
    """Makes pictures on one device; a worker has one. The current folder is the engine's: requests name uploads by paths in there."""

    def make(self, jobs: Sequence[Job], precision: str | None, wanted: Callable[[int], bool]) -> Generator[Happening, None, None]:
        """Computes jobs of one shape, as far as they go together; for each, one of Made, Spoiled or Refused, and then no more of it.

        What Made carries is used before the next happening is asked for. `precision`: "float32", or None, what is usual here. `wanted`:
        whether the job at a place still is; asked after each happening, and what nobody wants is not gone on with. MemoryError where there
        is not enough; whatever else it raises is a defect.
        """
        ...

    def free(self) -> None:
        """Gives back what memory is not in use."""
        ...
