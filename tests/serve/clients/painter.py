"""A maker whose pictures are of one colour, and take as long as a test wants. Imported by workers, so without torch and pytest."""

from collections.abc import Callable, Generator, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from engine.stub import Stub
from sumi.engine.job import Job
from sumi.engine.making import Drawn, Happening, Made, Moment

MAKER = "serve.clients.painter:Painter"
CELLS = 8


def png(colour: tuple[int, int, int], side: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG")
    return file.getvalue()


class Painter(Stub):
    """As the stub, by the words of a prompt: the preview after step k is of the grey k, the picture red."""

    def make(self, jobs: Sequence[Job], precision: str | None, wanted: Callable[[int], bool]) -> Generator[Happening, None, None]:
        for happening in super().make(jobs, precision, wanted):
            match happening:
                case Moment(places, step, steps):
                    yield Moment(places, step, steps, {0: png((step, step, step), CELLS)})
                case Made(place, pictures):
                    yield Made(place, (Drawn(8 * CELLS, 8 * CELLS, self._paint, self._paint),) * len(pictures))
                case other:
                    yield other

    @staticmethod
    def _paint(path: Path) -> None:
        path.write_bytes(png((255, 0, 0), 8 * CELLS))
