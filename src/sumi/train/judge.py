"""The judge: a small network that says, cell by cell, what is in a picture of a scene.

It scores generated pictures (`sumi.train.evaluate`) and learns from real renders alone: plain ones, and ones with a thing
spoilt, whose cells are of the kind `unknown`. Without these a judge rewards the right palette in the right place.

Legend: B batch, H W picture height and width, h w cells (H/4, W/4), N kinds (nothing, classes, unknown), K colours, M backgrounds.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from sumi.errors import CheckpointError
from sumi.nets.layers import Downsample, ResBlock
from sumi.store.checkpoint import fill, load, metadata, save
from sumi.train.data import sheet, to_pictures, to_tensor
from sumi.train.metrics import Labels, Share, Sight, attributes, see, shares
from sumi.train.scenes import Scene, Thing, World, colour_map, render, segmentation
from sumi.train.scenes.render import blends
from sumi.train.scenes.vocabulary import BACKGROUNDS
from sumi.train.spoil import CELLS, SIZE, WAYS, blurred, spoil

IGNORED = -100
SPOILT = 1 / 3  # of the scenes that a judge learns from
GATHERED = 1 / 2  # of them

SHIPPED = Path(__file__).parents[1] / "weights" / "judge" / "judge.safetensors"


@dataclass(frozen=True)
class JudgeConfig:
    """Channels at 1/2, 1/4 (the cells) and 1/8 of the resolution, and residual blocks at each of the last two."""

    channels: tuple[int, int, int] = (32, 96, 160)
    layers: int = 2
    norm_groups: int = 8


class Marks(NamedTuple):
    """Logits of each cell."""

    kinds: Float[Tensor, "B N h w"]
    cores: Float[Tensor, "B h w"]
    colours: Float[Tensor, "B K h w"]
    backgrounds: Float[Tensor, "B M h w"]


class Features(NamedTuple):
    """What a judge goes by: maps at 1/2, 1/4, 1/8 and, of both of the last together, 1/4 of the resolution; and the mean of the last."""

    maps: tuple[Float[Tensor, "B _ _ _"], ...]
    pooled: Float[Tensor, "B C"]


class Judge(nn.Module):
    """A convolutional network with a skip: features at 1/8 see whole things, features at 1/4 place them."""

    def __init__(self, config: JudgeConfig, labels: Labels) -> None:
        super().__init__()
        self.config, self.labels = config, labels
        fine, cell, coarse = config.channels
        groups = config.norm_groups
        self.stem = nn.Conv2d(3, fine, 3, stride=2, padding=1)
        self.fine = nn.Sequential(ResBlock(fine, fine, groups=groups), Downsample(fine))
        self.cells = _blocks(fine, cell, config)
        self.coarse = nn.Sequential(Downsample(cell), *_blocks(cell, coarse, config))
        self.join = nn.Conv2d(cell + coarse, coarse, 1)
        self.norm = nn.GroupNorm(groups, coarse)
        self.kinds = nn.Conv2d(coarse, len(labels.kinds), 1)
        self.cores = nn.Conv2d(coarse, 1, 1)
        self.colours = nn.Conv2d(coarse, len(labels.colours), 1)
        self.backgrounds = nn.Conv2d(coarse, len(labels.backgrounds), 1)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Marks:
        """Mark pictures in [-1, 1]."""
        seen = self.features(image).maps[-1]
        return Marks(self.kinds(seen), self.cores(seen)[:, 0], self.colours(seen), self.backgrounds(seen))

    def features(self, image: Float[Tensor, "B 3 H W"]) -> Features:
        """What it goes by, of pictures in [-1, 1]: to compare pictures, or sets of them."""
        block, halved = self.fine
        fine = block(self.stem(image))
        cells = self.cells(halved(fine))
        coarse = self.coarse(cells)
        whole = F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        joined = F.silu(self.norm(self.join(torch.cat([cells, whole], dim=1))))
        return Features((fine, cells, coarse, joined), joined.mean((2, 3)))

    def batches(self, pictures: NDArray[np.uint8], batch: int = 64) -> Iterator[Float[Tensor, "B 3 H W"]]:
        """Pictures [n height width 3] as it takes them; those that are not 64 by 64 are resized by area."""
        for start in range(0, len(pictures), batch):
            image = to_tensor(list(pictures[start : start + batch])).to(self.stem.weight)
            yield image if image.shape[-2:] == (SIZE, SIZE) else F.interpolate(image, (SIZE, SIZE), mode="area")

    @torch.inference_mode()
    def segment(self, pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
        """What is in each cell [n 16 16] of pictures [n height width 3]: indices in `labels.kinds`."""
        return np.concatenate([self(image).kinds.argmax(1).cpu().numpy() for image in self.batches(pictures)])

    @torch.inference_mode()
    def look(self, pictures: NDArray[np.uint8], batch: int = 64) -> list[Sight]:
        """Say what is in pictures [n height width 3]."""
        sights = []
        for image in self.batches(pictures, batch):
            marks = self(image)
            answers = (marks.kinds.argmax(1), marks.cores > 0, marks.colours.argmax(1), marks.backgrounds.argmax(1))
            maps = zip(*(answer.cpu().numpy() for answer in answers), strict=True)
            sights += [see(kinds, cores, colours, grounds, self.labels) for kinds, cores, colours, grounds in maps]
        return sights

    def save(self, path: Path) -> None:
        """Write the weights, in half precision, with the config and the labels in one safetensors file."""
        description = {"config": json.dumps(asdict(self.config)), "labels": json.dumps(asdict(self.labels))}
        save(path, {name: weight.half() for name, weight in self.state_dict().items()}, description)

    @classmethod
    def load(cls, path: Path) -> "Judge":
        """Read a judge, in float32, to be used as it is. Raises `CheckpointError` if the file is missing or not a judge."""
        weights, description = load(path), metadata(path)
        try:
            config, labels = (json.loads(description[part]) for part in ("config", "labels"))
            judge = cls(
                JudgeConfig(**config | {"channels": tuple(config["channels"])}),
                Labels(**{name: tuple(words) for name, words in labels.items()}),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is not a judge: train one with the judge recipe") from error
        fill(judge, weights, str(path))
        return judge.eval().requires_grad_(False)


def _blocks(in_channels: int, channels: int, config: JudgeConfig) -> nn.Sequential:
    widths = [in_channels] + [channels] * config.layers
    return nn.Sequential(*(ResBlock(a, b, groups=config.norm_groups) for a, b in pairwise(widths)))


class JudgeBatch(NamedTuple):
    """Pictures in [-1, 1] and what is in each cell; `IGNORED` where a question has no answer."""

    images: Float[Tensor, "B 3 H W"]
    kinds: Int[Tensor, "B h w"]
    cores: Float[Tensor, "B h w"]
    colours: Int[Tensor, "B h w"]
    backgrounds: Int[Tensor, "B h w"]


def labels_of(world: World) -> Labels:
    """The names of all that a world can show."""
    return Labels(tuple(world.classes), tuple(world.colours), tuple(world.backgrounds))


def judge_batch(world: World, rng: Generator, n: int) -> JudgeBatch:
    """`n` scenes, half of them gatherings and a third with a thing spoilt, all a little worn.

    That is how a good generated picture differs from a real render.
    """
    scenes = [gathering(world, rng) if rng.random() < GATHERED else world.sample(rng, split="train") for _ in range(n)]
    unknown = len(world.classes) + 1
    whole = rng.random(n) >= SPOILT
    drawn = [
        (render(scene, SIZE), segmentation(scene, CELLS)) if sound else spoil(scene, unknown, rng)
        for scene, sound in zip(scenes, whole, strict=True)
    ]
    kinds = np.stack([kinds for _, kinds in drawn]).astype(np.int64)
    sound_things = [scene if sound else replace(scene, things=scene.things[:-1]) for scene, sound in zip(scenes, whole, strict=True)]
    colours = np.stack([colour_map(scene, CELLS) for scene in sound_things]).astype(np.int64) - 1
    colours[(colours < 0) | (kinds == unknown)] = IGNORED
    places = {name: index for index, name in enumerate(world.backgrounds)}
    backgrounds = np.array([places[scene.background] for scene in scenes])[:, None, None]
    return JudgeBatch(
        _worn(to_tensor([picture for picture, _ in drawn]), rng),
        torch.from_numpy(kinds),
        torch.from_numpy(np.stack([core_map(scene) for scene in scenes])),
        torch.from_numpy(colours),
        torch.from_numpy(np.where(kinds > 0, IGNORED, backgrounds)),
    )


def judge_loss(judge: Judge, batch: JudgeBatch) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of every question in every cell that has an answer. Empty cells, the most and the easiest, weigh less."""
    marks = judge(batch.images.to(judge.stem.weight.dtype))
    weight = torch.ones(marks.kinds.shape[1], device=marks.kinds.device)
    weight[0] = 0.3
    parts = {
        "kinds": F.cross_entropy(marks.kinds.float(), batch.kinds, weight),
        "cores": F.binary_cross_entropy_with_logits(marks.cores.float(), batch.cores),
        "colours": F.cross_entropy(marks.colours.float(), batch.colours, ignore_index=IGNORED),
        "backgrounds": F.cross_entropy(marks.backgrounds.float(), batch.backgrounds, ignore_index=IGNORED),
    }
    loss = parts["kinds"] + parts["cores"] + 0.5 * parts["colours"] + 0.5 * parts["backgrounds"]
    return loss, {name: float(part.detach()) for name, part in parts.items()}


def gathering(world: World, rng: Generator) -> Scene:
    """A scene of up to six things of any size, none over another, that no caption fits: several lessons in one picture."""
    scene = world.sample(rng, split="train")
    ground = scene.background
    placed: list[Thing] = []
    for _ in range(12):
        thing = world.sample(rng, split="train").things[0]
        side = 2 * int(rng.integers(8, 15))
        x, y = (int(rng.integers(side // 2, SIZE + 1 - side // 2)) for _ in range(2))
        apart = all(max(abs(x - SIZE * p.x), abs(y - SIZE * p.y)) > (side + SIZE * p.size) / 2 for p in placed)
        visible = thing.colour not in BACKGROUNDS[ground].avoid if thing.colour else not blends(thing.name, ground)
        if len(placed) < 6 and apart and visible:
            placed.append(replace(thing, x=x / SIZE, y=y / SIZE, size=side / SIZE, group=0))
    return replace(scene, vocabulary=world.vocabulary, things=tuple(placed) or scene.things)


def core_map(scene: Scene) -> NDArray[np.float32]:
    """1 in the cells [16 16] whose centre is in the middle half of a thing's square, both ways; 0 elsewhere."""
    y, x = (np.indices((CELLS, CELLS)) + 0.5) / CELLS
    cores = np.zeros((CELLS, CELLS), np.float32)
    for thing in scene.things:
        cores[np.maximum(np.abs(x - thing.x), np.abs(y - thing.y)) < thing.size / 4] = 1
    return cores


def scores(judge: Judge, scenes: Sequence[Scene]) -> dict[str, Share]:
    """How a judge scores real renders of scenes: with a perfect judge every share is 1."""
    sights = judge.look(np.stack([render(scene, SIZE) for scene in scenes]))
    return shares(attributes(sight, scene) for sight, scene in zip(sights, scenes, strict=True))


def fooled(judge: Judge, scenes: Sequence[Scene], way: str, rng: Generator) -> Share:
    """In how many scenes whose last thing is spoilt a judge still finds everything; with a perfect judge in none.

    For single things and pairs: of two cats with one spoilt there still is a cat.
    """
    unknown = len(judge.labels.classes) + 1
    sights = judge.look(np.stack([spoil(scene, unknown, rng, way)[0] for scene in scenes]))
    return shares(attributes(sight, scene) for sight, scene in zip(sights, scenes, strict=True))["object"]


class JudgeTask:
    """Train a judge of all that `vocabulary` can show, on scenes drawn as it goes."""

    def __init__(self, config: JudgeConfig, *, vocabulary: str, batch: int = 64) -> None:
        self.world, self.batch = World(vocabulary), batch
        self.judge = Judge(config, labels_of(self.world))
        self.modules: dict[str, nn.Module] = {"judge": self.judge}
        self.rates: dict[str, float] = {}
        rng = np.random.default_rng(1)
        self.held_out = [self.world.sample(rng, split="held-out") for _ in range(400)]

    def loss(self, step: int, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        batch = judge_batch(self.world, rng, self.batch)
        return judge_loss(self.judge, JudgeBatch(*(part.to(self.judge.stem.weight.device) for part in batch)))

    def validate(self) -> dict[str, float]:
        """Shares of held-out real renders that are judged right, and of spoilt ones that are accepted."""
        right = {name: share.value for name, share in scores(self.judge, self.held_out).items() if share.value is not None}
        rng, alone = np.random.default_rng(2), [scene for scene in self.held_out if scene.kind in ("single", "pair")]
        accepted = {way: fooled(self.judge, alone, way, rng).value or 0.0 for way in WAYS}
        return right | accepted

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """What the judge is taught on."""
        batch = judge_batch(self.world, np.random.default_rng(3), 64)
        return {"judge": sheet(to_pictures(batch.images), 8)}

    def export(self, folder: Path) -> None:
        self.judge.save(folder / "judge.safetensors")


def _worn(images: Float[Tensor, "B 3 H W"], rng: Generator) -> Float[Tensor, "B 3 H W"]:
    """What an autoencoder does to a picture, without one: edges bent by a pixel, corners rounded, halos, shifted colours, noise."""
    count = len(images)

    def strength(low: float, high: float, *shape: int) -> NDArray[np.float32]:
        return rng.uniform(low, high, (count, *shape)).astype(np.float32)

    bend = torch.from_numpy(strength(0, 1.3, 1, 1, 1) * rng.standard_normal((count, 2, CELLS // 2, CELLS // 2), np.float32)) * 2 / SIZE
    straight = F.affine_grid(torch.eye(2, 3).expand(count, 2, 3), list(images.shape), align_corners=False)
    bent = straight + F.interpolate(bend, (SIZE, SIZE), mode="bicubic").permute(0, 2, 3, 1)
    images = F.grid_sample(images, bent, padding_mode="border", align_corners=False)

    pixels = blurred(images.permute(0, 2, 3, 1).numpy(), strength(0.1, 1.5))
    pixels += strength(0, 1, 1, 1, 1) * (pixels - blurred(pixels, 2.0))
    pixels = pixels * strength(0.94, 1.06, 1, 1, 3) + strength(-0.06, 0.06, 1, 1, 3)
    pixels += strength(0, 0.08, 1, 1, 1) * rng.standard_normal(pixels.shape, np.float32)
    return torch.from_numpy(pixels.clip(-1, 1)).permute(0, 3, 1, 2).contiguous()
