"""What jobs have made, as files: pictures, their thumbnails and stories, by one id. They are on the disk before a job tells of them."""

import uuid
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from sumi.engine.files import Files
from sumi.engine.making import Drawn
from sumi.engine.shelf import Kept

PICTURES, STORIES = "pictures", "stories"


class Results:
    """Those in an engine's folder. OutputError if it cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.pictures = Files(folder / PICTURES, ".png")
        self.thumbnails = Files(folder / PICTURES, ".webp")
        self.stories = Files(folder / STORIES, ".html", what="story")

    def keep(self, drawn: Drawn) -> Kept:
        """A new picture and its thumbnail. OutputError, and nothing is left of it, if it cannot be written."""
        name = uuid.uuid4().hex
        self.thumbnails.keep(name, drawn.thumbnail)
        try:
            self.pictures.keep(name, drawn.save)
        except BaseException:
            self.thumbnails.remove([name])
            raise
        return Kept(name, drawn.width, drawn.height)

    def tell(self, kept: Kept, save: Callable[[Path], object]) -> None:
        """Keeps the story of a picture, which `save` writes. OutputError as `keep`."""
        self.stories.keep(kept.id, save)

    def path(self, id: str) -> Path:
        """The file of a picture. JobError as `Files.path`."""
        return self.pictures.path(id)

    def remove(self, ids: Iterable[str]) -> None:
        """Takes pictures away that no job tells of, with all that is theirs."""
        for id in ids:
            for files in (self.stories, self.thumbnails, self.pictures):
                files.remove([id])

    def sweep(self, known: Collection[str]) -> int:
        """Takes away whatever is not of these pictures. How many files that were."""
        return sum(files.sweep(known) for files in (self.stories, self.thumbnails, self.pictures))
