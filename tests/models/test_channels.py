"""Pictures, masks and maps to channels beside the latent. Whole pictures made of them are compared in parity/test_pictures."""

import pytest
import torch

from sumi.config import AutoencoderConfig, MapConfig
from sumi.diffusion.noise import Noise
from sumi.models.channels import Depth, LowRes, Mask, MaskedImage, NoisyLowRes, Segmentation, Source
from sumi.models.embedders import LOW_RES, MASKED_IMAGE, drawn
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.conditioners import MapRescaler

NOISE = Noise(3, range(4, 6), (4, 8, 8))
MASK = torch.zeros(1, 1, 4, 4)
MASK[..., 2:] = 0.5


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    torch.manual_seed(0)
    config = AutoencoderConfig(block_channels=(4, 8), layers_per_block=1, attention_levels=(False,) * 2, norm_groups=4, latent_scale=0.5)
    return Autoencoder(config).eval().requires_grad_(False)


def test_a_mask_is_two_numbers_at_the_latents_size() -> None:
    assert Mask()(MASK, (2, 2)).concat.tolist() == [[[[0, 1], [0, 1]]]]
    assert Mask(signed=True)(MASK, (2, 2)).concat.tolist() == [[[[-1, 1], [-1, 1]]]]


@pytest.mark.parametrize("black", [False, True])
def test_the_hole_hides_what_was_there(autoencoder: Autoencoder, black: bool) -> None:
    image, mask = torch.rand(2, 3, 16, 16), (torch.rand(2, 1, 16, 16) > 0.5).float()
    embed = MaskedImage(autoencoder, black)
    other = torch.where(mask == 1, torch.rand(2, 3, 16, 16), image)
    assert torch.equal(embed(image, mask, NOISE).concat, embed(other, mask, NOISE).concat)
    holed = autoencoder.encode(torch.where(mask == 1, -1.0 if black else 0.0, image))
    expected = holed.sample(drawn(NOISE, MASKED_IMAGE, holed.mean)) * (2 if black else 1)
    torch.testing.assert_close(embed(image, mask, NOISE).concat, expected)


def test_a_pictures_draws_are_its_own_and_not_the_samplers() -> None:
    like = torch.zeros(2, 3, 5, 5)
    both, second = drawn(NOISE, LOW_RES, like), drawn(Noise(3, [5], (1,)), LOW_RES, like[:1])
    assert torch.equal(both[1:], second)
    taken = [NOISE(step) for step in range(3)]
    assert not any(torch.equal(drawn(NOISE, number, taken[0]), draw) for number in (LOW_RES, MASKED_IMAGE) for draw in taken)


def test_a_source_is_not_scaled_and_its_null_is_zeros(autoencoder: Autoencoder) -> None:
    embed = Source(autoencoder)
    image = torch.rand(2, 3, 16, 16)
    found = embed(image).concat
    torch.testing.assert_close(found, autoencoder.encode(image).mode() / 0.5)
    assert torch.equal(embed.null(found).concat, torch.zeros(2, 4, 8, 8))


def test_a_picture_to_enlarge_is_noised_to_the_level_that_is_told() -> None:
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(LowRes()(image).concat, image)
    patches = LowRes(2)(image).concat
    assert patches.shape == (2, 12, 4, 4) and torch.equal(patches[:, 3 + 4], image[:, 1, 1::2, 1::2])
    abar = torch.cumprod(1 - torch.linspace(0.0001**0.5, 0.02**0.5, 1000, dtype=torch.float64) ** 2, 0)
    for level in (None, 0, 350):
        found = NoisyLowRes()(image, NOISE, level)
        shown = 20 if level is None else level
        assert found.vector.tolist() == [shown, shown]
        expected = abar[shown].sqrt() * image + (1 - abar[shown]).sqrt() * drawn(NOISE, LOW_RES, image)
        torch.testing.assert_close(found.concat, expected.float())


def test_depth_is_on_each_pictures_own_scale() -> None:
    depth = torch.rand(3, 1, 20, 30) * torch.tensor([1.0, 1000.0, 0.0])[:, None, None, None] + 7
    found = Depth()(depth, (8, 12)).concat
    assert found.shape == (3, 1, 8, 12)
    assert found.amin((1, 2, 3)).tolist() == [-1, -1, -1] and found.amax((1, 2, 3)).tolist() == [1, 1, -1]


def test_a_map_is_of_class_numbers() -> None:
    rescaler = MapRescaler(MapConfig(classes=3)).requires_grad_(False)
    classes = torch.randint(0, 3, (2, 16, 24))
    one_hot = torch.stack([(classes == k).float() for k in range(3)], 1)
    assert torch.equal(Segmentation(rescaler)(classes).concat, rescaler(one_hot))
