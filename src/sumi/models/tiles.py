"""Pictures larger than memory: an autoencoder that works tile by tile, exactly; and a noise predictor that sees window by window.

Legend: B batch, C channels, H W height and width of a map, n cells along one side of a window.

Why tiles are exact here. What one place of an autoencoder's map knows of far places, it has from attention, which is at the lowest
resolution and is computed whole, and from group normalisation, which takes the mean and variance of the whole map. Tiles that each use
their own differ in colour and contrast, and blending their borders hides only the edges of that. Here a layer's mean and variance are
gathered over all tiles before any tile goes through it. So the layers before it are computed once for the numbers and again for what
follows: how often is a matter of which maps are kept whole in between. Those that are small beside the picture are; the largest never are,
which saves the memory. Each tile takes as much of its surroundings along as its layers look at: no seams, and nothing to blend.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, product
from typing import Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sumi.diffusion.denoiser import Network
from sumi.models.seamless import Axes, across, closed
from sumi.nets.autoencoder import Autoencoder, Decoder, Encoder, Level, Middle
from sumi.nets.layers import ResBlock

KEPT = 64
"""Numbers for each pixel of the picture that a map may hold and be kept whole. Stable Diffusion's decoder has maps of up to 256."""

CELLS = 16384
"""Latent cells of the windows that are computed at once: four windows of 64 x 64, or as many smaller ones."""

Maps: TypeAlias = tuple[Tensor, ...]
"""What goes from step to step, [1 C H W] each: a map, and beside it what a residual block will add to it."""

Interval: TypeAlias = tuple[int, int]
"""From the first on, up to the last and without it; beyond the map where it closes on itself."""

Region: TypeAlias = Sequence[Interval]
"""Rows and columns."""


def tiled(autoencoder: Autoencoder, tile: int) -> Autoencoder:
    """The autoencoder, working by tiles of `tile` pixels along each side: the same to float rounding, in less memory, slower.

    It shares the weights of the one that is given, which stays as it is; a seamless one stays seamless. It is for calling: there are no
    gradients. A picture is cut into as few tiles as can be, of whole latent cells, evenly; one that is no larger than a tile is computed
    as without. ValueError for tiles smaller than one cell.
    """
    factor = autoencoder.config.factor
    if tile < factor:
        raise ValueError(f"tiles of {tile} pixels are too small: {factor} is the least that this autoencoder can take")
    if autoencoder.config.identity:
        return autoencoder
    axes, cells = closed(autoencoder), tile // factor
    twin, encoder, decoder = copy.copy(autoencoder), autoencoder.encoder, autoencoder.decoder
    twin._modules = {
        **autoencoder._modules,
        "encoder": Tiled(encoder, Chain(tuple(_encoder_steps(encoder)), factor, factor, axes), cells),
        "decoder": Tiled(decoder, Chain(tuple(_decoder_steps(decoder)), 1, factor, axes), cells),
    }
    return twin


class Tiled(nn.Module):
    """All of an encoder or decoder, computed by the steps of a chain unless the picture is no larger than a tile of so many cells."""

    def __init__(self, network: nn.Module, chain: "Chain", cells: int) -> None:
        super().__init__()
        vars(self).update(vars(network))
        self.whole, self.chain, self.cells = network.forward, chain, cells

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        cores = self.chain.cores(x, self.cells)
        if len(cores) == 1:
            out: Tensor = self.whole(x)
            return out
        # One picture at a time: its numbers are its own, and so is its memory.
        return torch.cat([self.chain(picture[None], cores) for picture in x])


@dataclass(frozen=True, eq=False)
class Step:
    """A layer: from its maps, the first one normalised and activated where there is a norm, it makes the next.

    It makes each cell of one `up` times finer, or `down` times coarser, than its input's, of which it looks at as many `before` and `after`
    it, counted in the finer of the two.
    """

    run: Callable[[Tensor, Maps], Maps]
    channels: int
    """Of all the maps that come out."""
    norm: nn.GroupNorm | None = None
    before: int = 0
    after: int = 0
    up: int = 1
    down: int = 1
    whole: bool = False
    """It looks everywhere."""

    def needs(self, made: Interval) -> Interval:
        """The part of the input that a part of the output is made of."""
        first, last = made[0] * self.down - self.before, (made[1] - 1) * self.down + self.after
        return first // self.up, last // self.up + 1


@dataclass(frozen=True, eq=False)
class Chain:
    """Steps one after the other, from maps with `scale` cells for one of the latent, along each side; `factor` is the picture's scale."""

    steps: tuple[Step, ...]
    scale: int
    factor: int
    axes: Axes

    def cores(self, x: Float[Tensor, "B _ _ _"], cells: int) -> list[Region]:
        """Tiles of at most so many cells of the latent, of which each belongs to one."""
        return list(product(*(_parts(length // self.scale, cells) for length in x.shape[2:])))

    def __call__(self, x: Float[Tensor, "1 _ _ _"], cores: Sequence[Region]) -> Float[Tensor, "1 _ _ _"]:
        """All steps for the whole map, by tiles whose `cores` are of the latent."""
        size, maps = [length // self.scale for length in x.shape[2:]], cast(Maps, (x,))
        for span in self._spans():
            if self.steps[span[0]].whole:
                maps = self.steps[span[0]].run(maps[0], maps)
                continue
            norms: dict[int, Affine] = {}
            for at in span:
                if (norm := self.steps[at].norm) is not None:
                    norms[at] = _normalising(norm, (self._part(maps, range(span[0], at), core, size, norms)[0] for core in cores))
            maps = self._joined(((core, self._part(maps, span, core, size, norms)) for core in cores), size, self._scales[span[-1] + 1])
        return maps[0]

    @property
    def _scales(self) -> list[int]:
        """Cells for one of the latent: of the input of each step, and of the last one's output."""
        return list(accumulate(self.steps, lambda scale, step: scale * step.up // step.down, initial=self.scale))

    def _spans(self) -> Iterator[range]:
        """The steps between maps that are kept."""
        first = 0
        for at, (step, scale) in enumerate(zip(self.steps, self._scales[1:], strict=True)):
            last = at == len(self.steps) - 1
            if last or step.whole or self.steps[at + 1].whole or step.channels * scale**2 <= KEPT * self.factor**2:
                yield range(first, at + 1)
                first = at + 1

    def _part(self, maps: Maps, span: range, core: Region, size: Sequence[int], norms: Mapping[int, "Affine"]) -> Maps:
        """What the steps of a span make of the maps before it, in one tile; of those with a norm, it is among `norms`."""
        regions = self._regions(span, core, size)
        maps = tuple(_cut(each, regions[0]) for each in maps)
        for at, (given, made) in zip(span, pairwise(regions), strict=True):
            step = self.steps[at]
            out = step.run(norms[at](maps[0]) if step.norm is not None else maps[0], maps)
            # Where the tile ends and the picture does not, the layer took zeros for what is there: that is cut off.
            corner = [first * step.up // step.down for first, _ in given]
            maps = tuple(_cut(each, [(first - c, last - c) for (first, last), c in zip(made, corner, strict=True)]) for each in out)
        return maps

    def _regions(self, span: range, core: Region, size: Sequence[int]) -> list[Region]:
        """What has to be known of each step's input, and of the last one's output, for that to be the core."""
        scales, regions = self._scales, [_scaled(core, self._scales[span.stop])]
        for at in reversed(span):
            needed = []
            for interval, length, goes_round in zip(regions[0], size, across(self.axes), strict=True):
                first, last = self.steps[at].needs(interval)
                needed.append((first, last) if goes_round else (max(first, 0), min(last, length * scales[at])))
            regions.insert(0, needed)
        return regions

    def _joined(self, parts: Iterable[tuple[Region, Maps]], size: Sequence[int], scale: int) -> Maps:
        """The whole maps, of what their tiles' cores are, with `scale` cells for one of the latent."""
        whole: Maps = ()
        for core, maps in parts:
            whole = whole or tuple(each.new_empty(1, each.shape[1], size[0] * scale, size[1] * scale) for each in maps)
            for into, each in zip(whole, maps, strict=True):
                _cut(into, _scaled(core, scale)).copy_(each)
        return whole


@dataclass(frozen=True, eq=False)
class Affine:
    """A group normalisation whose mean and variance are known, and the SiLU after it."""

    scale: Float[Tensor, "C 1 1"]
    shift: Float[Tensor, "C 1 1"]

    def __call__(self, x: Float[Tensor, "1 C H W"]) -> Float[Tensor, "1 C H W"]:
        return F.silu((x.float() * self.scale).add_(self.shift), inplace=True).to(x.dtype)


def _normalising(norm: nn.GroupNorm, tiles: Iterable[Tensor]) -> Affine:
    """By the mean and variance of a map, given in tiles [1 C _ _] which it consists of (Chan et al. 1979, equation 2.1, for many)."""
    found = []
    for tile in tiles:
        groups = tile.float().reshape(norm.num_groups, -1)
        found.append((groups.shape[1], *torch.var_mean(groups, 1, correction=0)))
    counts, variances, means = (torch.stack([torch.as_tensor(entry[i]) for entry in found]) for i in range(3))
    share = (counts / counts.sum()).to(means)[:, None]
    mean = (share * means).sum(0)
    variance = (share * (variances + (means - mean) ** 2)).sum(0)
    each = norm.num_channels // norm.num_groups
    scale = (variance + norm.eps).rsqrt().repeat_interleave(each) * norm.weight.float()
    shift = norm.bias.float() - mean.repeat_interleave(each) * scale
    return Affine(scale[:, None, None], shift[:, None, None])


def _encoder_steps(encoder: Encoder) -> Iterator[Step]:
    conv, patch = encoder.conv_in, encoder.patch_size
    yield Step(lambda h, maps: (conv(F.pixel_unshuffle(h, patch)),), conv.out_channels, before=patch, after=2 * patch - 1, down=patch)
    for block in cast(list[Level], encoder.down_blocks):
        yield from _level_steps(block)
    yield from _middle_steps(encoder.mid_block)
    yield _last_step(encoder.conv_norm_out, encoder.conv_out, 1)


def _decoder_steps(decoder: Decoder) -> Iterator[Step]:
    conv = decoder.conv_in
    yield Step(lambda h, maps: (conv(h),), conv.out_channels, before=1, after=1)
    yield from _middle_steps(decoder.mid_block)
    for block in cast(list[Level], decoder.up_blocks):
        yield from _level_steps(block)
    yield _last_step(decoder.conv_norm_out, decoder.conv_out, decoder.patch_size)


def _level_steps(level: Level) -> Iterator[Step]:
    channels = 0
    for layer, resnet in enumerate(cast(list[ResBlock], level.resnets)):
        channels = resnet.conv2.out_channels
        yield from _residual_steps(resnet)
        if level.attentions is not None:
            yield _whole_step(level.attentions[layer], channels)
    if level.downsamplers is not None:
        halved = level.downsamplers[0]
        yield Step(lambda h, maps: (halved(h),), channels, after=2, down=2)
    if level.upsamplers is not None:
        doubled = level.upsamplers[0]
        yield Step(lambda h, maps: (doubled(h),), channels, before=1, after=1, up=2)


def _middle_steps(middle: Middle) -> Iterator[Step]:
    first, second = cast(list[ResBlock], middle.resnets)
    yield from _residual_steps(first)
    if middle.attentions is not None:
        yield _whole_step(middle.attentions[0], first.conv2.out_channels)
    yield from _residual_steps(second)


def _residual_steps(block: ResBlock) -> Iterator[Step]:
    """A residual block without time or resampling, cut before its second norm; there, its input goes along."""
    first, second, shortcut = block.conv1, block.conv2, block.conv_shortcut
    both = first.out_channels + first.in_channels
    yield Step(lambda h, maps: (first(h), maps[0]), both, block.norm1, before=1, after=1)

    def end(h: Tensor, maps: Maps) -> Maps:
        return (second(h) + (maps[1] if shortcut is None else shortcut(maps[1])),)

    yield Step(end, second.out_channels, block.norm2, before=1, after=1)


def _last_step(norm: nn.GroupNorm, conv: nn.Conv2d, patch: int) -> Step:
    return Step(
        lambda h, maps: (F.pixel_shuffle(conv(h), patch),), conv.out_channels // patch**2, norm, before=patch, after=patch, up=patch
    )


def _whole_step(layer: nn.Module, channels: int) -> Step:
    return Step(lambda h, maps: (layer(h),), channels, whole=True)


def _parts(length: int, most: int) -> list[Interval]:
    """A length in as few parts as there can be, evenly, in order."""
    count = math.ceil(length / most)
    return [(length * i // count, length * (i + 1) // count) for i in range(count)]


def _scaled(region: Region, scale: int) -> Region:
    return [(first * scale, last * scale) for first, last in region]


def _cut(x: Float[Tensor, "_ _ _ _"], region: Region) -> Float[Tensor, "_ _ _ _"]:
    """A region of a map, round its edges where it reaches beyond them. A view, if it does not."""
    for dim, (first, last) in zip((2, 3), region, strict=True):
        if first >= 0 and last <= x.shape[dim]:
            x = x.narrow(dim, first, last - first)
        else:
            x = x.index_select(dim, torch.arange(first, last, device=x.device) % x.shape[dim])
    return x


def windows(network: Network, size: int, overlap: int, *, axes: Axes = "none", weights: Literal["ramps", "uniform"] = "ramps") -> Network:
    """A noise predictor for pictures larger than it can see: what it says of windows, averaged (Bar-Tal et al. 2023, equation 5).

    The average of predictions is that of the steps they lead to, as every sampler's step is affine in them: it can be used with any.
    Windows are of `size` x `size` latent cells, a multiple of the network's total stride, spread evenly; neighbours share `overlap` cells
    or a few more. All are told the same context and vector; channels beside the latent are cut with it. Few are computed at once. A
    picture no larger than a window is left to the network as it is. ValueError for windows of no size, or that overlap wholly.

    weights: "ramps" rise linearly from each inner edge of a window to where its neighbour ends: no window ends abruptly, and it counts
    least where it knows least of what is around; "uniform" is the paper's choice for panoramas.
    axes: along which the picture closes on itself. Windows go round it there, if it is larger than a window; if it is not, the network
    has to be seamless itself, along the axes that `inside` names.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ValueError(f"windows of {size} cells cannot overlap by {overlap}: use 0 to {max(size - 1, 0)}, and windows of 1 cell or more")

    def predict(x: Tensor, t: Tensor, context: Tensor | None, vector: Tensor | None) -> Tensor:
        rows, columns = (
            _strips(length, size, overlap, goes_round, weights == "uniform")
            for length, goes_round in zip(x.shape[2:], across(axes), strict=True)
        )
        places = list(product(rows, columns))
        if len(places) == 1:
            return network(x, t, context, vector)
        said, together = None, max(1, CELLS // (len(x) * size**2))
        for group in (places[at : at + together] for at in range(0, len(places), together)):
            count = len(group)
            seen = torch.cat([x[:, :, down.cells[:, None], along.cells] for down, along in group])
            parts = network(seen, t.repeat(count), _repeated(context, count), _repeated(vector, count))
            if said is None:
                said = parts.new_zeros(len(x), parts.shape[1], *x.shape[2:], dtype=torch.float32)
            for (down, along), part in zip(group, parts.chunk(count), strict=True):
                weight = down.weights[:, None] * along.weights
                said[:, :, down.cells[:, None], along.cells] += weight.to(said) * part
        assert said is not None
        return said.to(parts.dtype)

    return predict


def inside(axes: Axes, cells: tuple[int, int], size: int) -> Axes:
    """Those of the axes along which a picture of (h, w) cells is no larger than a window: there, no window goes round."""
    down, along = (goes_round and length <= size for goes_round, length in zip(across(axes), cells, strict=True))
    return "both" if down and along else "y" if down else "x" if along else "none"


@dataclass(frozen=True, eq=False)
class Strip:
    """The cells of a window along one axis, and what it counts for at each; all windows' weights add up to 1 at every cell."""

    cells: Int[Tensor, " n"]
    weights: Float[Tensor, " n"]


def _strips(length: int, size: int, overlap: int, goes_round: bool, uniform: bool) -> list[Strip]:
    """The windows along one axis, in order."""
    size = min(size, length)
    if length == size:
        starts, goes_round = [0], False
    elif goes_round:
        count = math.ceil(length / (size - overlap))
        starts = [length * i // count for i in range(count)]
    else:
        count = math.ceil((length - overlap) / (size - overlap))
        starts = [(length - size) * i // (count - 1) for i in range(count)]
    at, strips, total = torch.arange(size), [], torch.zeros(length)
    for i, start in enumerate(starts):
        weights = torch.ones(size)
        if not uniform and (i > 0 or goes_round):
            shared = size - (start - starts[i - 1]) % length
            weights = weights.minimum((at + 1) / (shared + 1))
        if not uniform and (i < len(starts) - 1 or goes_round):
            shared = size - (starts[(i + 1) % len(starts)] - start) % length
            weights = weights.minimum((size - at) / (shared + 1))
        strips.append(Strip((start + at) % length, weights))
        total[strips[-1].cells] += weights
    return [Strip(strip.cells, strip.weights / total[strip.cells]) for strip in strips]


def _repeated(told: Tensor | None, count: int) -> Tensor | None:
    return None if told is None else told.repeat(count, *[1] * (told.ndim - 1))
