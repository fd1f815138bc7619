"""Labels and numbers to conditioning."""

import math

import pytest
import torch

from sumi.config import LabelConfig, ModelSpec
from sumi.diffusion.noise import Noise
from sumi.models.embedders import (
    IMAGE_EMBEDDING,
    ImageEmbedding,
    Label,
    Sizes,
    drawn,
    pooled_width,
    sizes,
    takes_image_embedding,
)
from sumi.models.zoo import ZOO
from sumi.nets.conditioners import LabelEmbedding


def test_sizes_are_sinusoids_of_height_before_width_and_top_before_left() -> None:
    found = Sizes(6)((768, 1024), 2, original=(900, 1200), crop=(16, 8)).vector
    assert found is not None and found.shape == (2, 6 * 256) and torch.equal(found[0], found[1])
    for number, part in zip((900, 1200, 16, 8, 768, 1024), found[0].split(256), strict=True):
        angles = [number * math.exp(-math.log(10000) * i / 128) for i in (0, 1, 127)]
        expected = [f(angle) for f in (math.cos, math.sin) for angle in angles]
        torch.testing.assert_close(part[[0, 1, 127, 128, 129, 255]], torch.tensor(expected), atol=1e-4, rtol=0)
    assert Sizes(6)((768, 1024)).equals(Sizes(6)((768, 1024), original=(768, 1024), crop=(0, 0)))
    assert Sizes(6).null((768, 1024)).equals(Sizes(6)((768, 1024)))


def test_the_refiner_is_told_a_score_in_place_of_the_size_asked_for() -> None:
    given, away = Sizes(5)((768, 1024)), Sizes(5).null((768, 1024))
    assert given.vector is not None and away.vector is not None
    assert given.vector.shape == (1, 5 * 256)
    assert torch.equal(given.vector[:, : 4 * 256], Sizes(6)((768, 1024)).vector[:, : 4 * 256])
    assert torch.equal(given.vector[:, : 4 * 256], away.vector[:, : 4 * 256])
    assert [part[0, 4 * 256].item() for part in (given.vector, away.vector)] == pytest.approx([math.cos(6), math.cos(2.5)])


@pytest.mark.parametrize("spec", ZOO.values(), ids=ZOO)
def test_what_the_vector_of_a_model_is_made_of(spec: ModelSpec) -> None:
    embedder = sizes(spec)
    numbers = None if embedder is None else embedder.numbers
    assert numbers == (5 if spec.name == "sdxl-refiner" else 6 if spec.name.startswith("sdxl") else None)
    assert takes_image_embedding(spec) == ("unclip" in spec.name)
    assert pooled_width(spec) == (None if spec.text is None or spec.name.startswith("ldm") else (spec.text_2 or spec.text).width)


def test_a_label_has_a_null_of_its_own() -> None:
    table = LabelEmbedding(LabelConfig(classes=5, width=4)).requires_grad_(False)
    label = Label(table)
    assert torch.equal(label(torch.tensor([3, 0])).context, table.embedding.weight[[3, 0]][:, None])
    assert label.null(2).equals(label(torch.tensor([4, 4])))


def test_an_embedding_is_noised_on_the_scale_of_training_and_told_how_much() -> None:
    mean, std, embedding, noise = torch.randn(6), torch.rand(6) + 0.5, torch.randn(2, 6), Noise(3, range(2), (4, 8, 8))
    embed = ImageEmbedding(mean, std)
    clean = embed(embedding, noise)
    assert clean.vector is not None and clean.vector.shape == (2, 12)
    torch.testing.assert_close(clean.vector[0, 6:], torch.tensor([1.0] * 3 + [0.0] * 3))
    noisiest = embed(embedding, noise, 999).vector
    torch.testing.assert_close(noisiest[:, :6], drawn(noise, IMAGE_EMBEDDING, embedding) * std + mean, atol=1e-3, rtol=0)
    assert torch.equal(embed.null(3).vector, torch.zeros(3, 12))
