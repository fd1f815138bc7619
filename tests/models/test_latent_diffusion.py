"""The parts put together."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from small import variant
from sumi.config import Concat, LabelConfig
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.noise import Noise
from sumi.errors import RequestError
from sumi.models.embedders import ImageEmbedding, Label
from sumi.models.latent_diffusion import Inputs, LatentDiffusion
from sumi.nets.conditioners import LabelEmbedding


def test_a_latent_has_the_autoencoders_channels_and_factor(tiny: LatentDiffusion) -> None:
    assert tiny.latent_shape(16, 24) == (4, 8, 12)
    picture = tiny.decode(torch.zeros(2, 4, 8, 12))
    assert picture.shape == (2, 3, 16, 24) and picture.dtype == torch.float32


def test_the_denoiser_is_the_unet_behind_its_prediction(tiny: LatentDiffusion) -> None:
    x, sigma, cond = torch.randn(2, 4, 8, 12), torch.tensor(2.0), tiny.encode(["a cat", ""])
    c = 1 / (1 + sigma**2).sqrt()
    v = tiny.unet(x * c, tiny.schedule.t(sigma).expand(2), cond.context, cond.vector)
    torch.testing.assert_close(tiny.denoiser()(x, sigma, cond), x * c**2 - v * sigma * c)


def test_networks_of_lower_precision_are_behind_the_same_float32_face(tiny: LatentDiffusion) -> None:
    assert tiny.prompt is not None
    prompt = copy.copy(tiny.prompt)
    prompt.encoder = copy.deepcopy(prompt.encoder).bfloat16()
    low = replace(tiny, unet=copy.deepcopy(tiny.unet).bfloat16(), autoencoder=copy.deepcopy(tiny.autoencoder).bfloat16(), prompt=prompt)
    x, sigma = torch.randn(1, 4, 8, 12), torch.tensor(2.0)
    for ours, exact in (
        (low.denoiser()(x, sigma, low.encode(["a cat"])), tiny.denoiser()(x, sigma, tiny.encode(["a cat"]))),
        (low.decode(x), tiny.decode(x)),
    ):
        assert ours.dtype == torch.float32
        assert 0 < (ours - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("texts", [[], ["", "a cat"]])
def test_a_model_without_text_tells_its_unet_nothing(tiny: LatentDiffusion, texts: list[str]) -> None:
    assert replace(tiny, prompt=None).encode(texts) == Conditioning()


NOISE = Noise(7, range(2), (4, 8, 12))
IMAGE, MASK = torch.rand(2, 3, 16, 24), torch.ones(2, 1, 16, 24)


def test_without_other_inputs_the_conditions_are_the_words(tiny: LatentDiffusion) -> None:
    given, away = tiny.conditions(["a cat", "two stars"], Inputs(), NOISE, negative=["a tree", ""])
    assert given.equals(tiny.encode(["a cat", "two stars"])) and away.equals(tiny.encode(["a tree", ""], away=True))
    assert tiny.conditions(["a cat", ""], Inputs(), NOISE)[1].equals(tiny.encode(["", ""]))


def test_what_lies_beside_the_latent_is_on_both_sides_in_the_order_of_the_spec(tiny: LatentDiffusion) -> None:
    for concat, at in ((("mask", "masked_image"), 0), (("masked_image", "mask"), 4)):
        model = replace(tiny, spec=replace(tiny.spec, concat=concat))
        given, away = model.conditions(["a cat", ""], Inputs(IMAGE, MASK), NOISE)
        assert given.concat is not None and away.concat is not None
        assert given.concat.shape == (2, 5, 8, 12) and torch.equal(given.concat, away.concat)
        assert torch.equal(given.concat[:, at], torch.ones(2, 8, 12))


def test_a_larger_picture_has_more_cells(tiny: LatentDiffusion) -> None:
    model = replace(tiny, spec=replace(tiny.spec, concat=("depth",)))
    given, _ = model.conditions(["a cat", ""], Inputs(depth=torch.rand(2, 1, 5, 7)), NOISE, size=(32, 16))
    assert given.concat is not None and given.concat.shape == (2, 1, 16, 8)


@pytest.mark.parametrize(
    ("concat", "what"),
    [("mask", "a mask"), ("image", "a picture to change"), ("low_res", "a picture to enlarge"), ("depth", "a depth map")],
)
def test_an_input_that_is_missing_is_named(tiny: LatentDiffusion, concat: Concat, what: str) -> None:
    others: tuple[Concat, ...] = ("masked_image",) if concat == "mask" else ()
    model = replace(tiny, spec=replace(tiny.spec, concat=(concat, *others)))
    with pytest.raises(RequestError, match=f"^tiny needs {what}: give it one"):
        model.conditions(["", ""], Inputs(), NOISE)


def test_labels_and_embeddings_have_nulls(tiny: LatentDiffusion) -> None:
    table = LabelEmbedding(LabelConfig(classes=5, width=24)).requires_grad_(False)
    labelled = replace(tiny, prompt=None, label=Label(table))
    given, away = labelled.conditions(["", ""], Inputs(labels=torch.tensor([1, 2])), NOISE)
    assert given.context is not None and away.context is not None
    assert torch.equal(given.context[:, 0], table.embedding.weight[[1, 2]]) and torch.equal(
        away.context[:, 0], table.embedding.weight[[4, 4]]
    )
    with pytest.raises(RequestError, match="needs a class label"):
        labelled.conditions(["", ""], Inputs(), NOISE)
    seen = replace(tiny, prompt=None, image_embedding=ImageEmbedding(torch.zeros(4), torch.ones(4)))
    given, away = seen.conditions(["", ""], Inputs(embedding=torch.ones(2, 4)), NOISE)
    assert given.vector is not None and away.vector is not None
    assert given.vector.shape == (2, 8) and torch.equal(away.vector, torch.zeros(2, 8))
    with pytest.raises(RequestError, match="needs a picture to make variations of"):
        seen.conditions(["", ""], Inputs(), NOISE)


def test_a_map_of_another_size_is_that_of_the_nearest_pixels() -> None:
    model, noise = variant("map"), Noise(0, [0], (4, 12, 16))
    labels = torch.randint(-1, 4, (1, 24, 32), generator=torch.Generator().manual_seed(0))
    larger = F.interpolate(labels[:, None].double(), (48, 64), mode="nearest-exact")[:, 0].long()
    told = [model.beside_words(Inputs(map=each), noise, (48, 64))[0] for each in (labels, larger)]
    assert told[0].equals(told[1]) and told[0].concat is not None and told[0].concat.shape == (1, 8, 12, 16)
