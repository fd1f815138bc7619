"""A maker that paints one colour, at once: real pictures, without a model. Imported by workers, so without pytest."""

from collections.abc import Callable, Generator, Mapping, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, PngImagePlugin

from sumi.engine.job import Job
from sumi.engine.making import Drawn, Happening, Made, Moment
from sumi.store.record import Record


class Painter:
    """Pictures of 8 x 8 pixels, whatever was asked for."""

    def __init__(self, device: str | None, precision: str | None, budget: int | None, models: Mapping[str, str]) -> None:
        pass

    def make(self, jobs: Sequence[Job], precision: str | None, wanted: Callable[[int], bool]) -> Generator[Happening, None, None]:
        places = tuple(range(len(jobs)))
        for step in range(3):
            yield Moment(places, step, 2, {0: _painted(jobs[0], 0)} if step else {})
        for place, job in enumerate(jobs):
            drawn = tuple(Drawn(8, 8, _saver(_painted(job, k)), _saver(_painted(job, k, "WEBP"))) for k in range(job.request.count))
            yield Made(place, drawn)

    def free(self) -> None:
        pass


def _painted(job: Job, number: int, kind: str = "PNG") -> bytes:
    seed = (job.request.seed or 0) + number
    image = Image.new("RGB", (8, 8), (seed % 256, seed // 256 % 256, 128))
    text = PngImagePlugin.PngInfo()
    if kind == "PNG":
        from dataclasses import replace

        known = {"sampler": "ddim", "steps": 2, "guidance": 1.0, "width": 8, "height": 8}
        given = {name: value for name, value in known.items() if getattr(job.request, name) is None}
        for keyword, value in Record(replace(job.request, **given, first=job.request.first + number, count=1), version="0").texts().items():
            text.add_text(keyword, value)
    file = BytesIO()
    image.save(file, kind, **({"pnginfo": text} if kind == "PNG" else {}))
    return file.getvalue()


def _saver(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)
