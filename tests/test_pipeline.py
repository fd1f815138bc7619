"""From a request to pictures."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sumi
from sumi import running
from sumi.config import ModelSpec
from sumi.diffusion.noise import Noise
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.diffusion.schedule import Schedule
from sumi.diffusion.spacings import SPACINGS, spaced
from sumi.errors import CheckpointError, OutputError, RequestError, SumiError
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.zoo import ZOO
from sumi.pipeline import Decoded, Encoded, Finished, Picture, Step, generate, illustrate, stream
from sumi.request import FILES, Request
from sumi.resolve.defaults import resolve
from sumi.store.assembly import load
from sumi.store.record import read

CAT = Request(prompt="a cat", seed=7, steps=3)


def pixels(picture: Picture) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.asarray(picture.image).astype(np.int16)


def alike(one: Picture, other: Picture) -> bool:
    """The same to float rounding."""
    return torch.allclose(one.latent, other.latent, atol=1e-4) and int(abs(pixels(one) - pixels(other)).max()) <= 1


# What is refused, and what is filled in


def test_what_is_left_open_is_the_models(tiny: LatentDiffusion) -> None:
    request = resolve(Request(seed=0), tiny.spec)
    assert request == Request(
        seed=0, steps=4, guidance=3.0, sampler="ddim", spacing="trailing", eta=0.0, options={}, height=16, width=24
    )  # fmt: skip
    assert resolve(request, tiny.spec) == request
    unused = {*FILES, "digests", "strength", "outpaint", "image_guidance", "level", "label", "variation_seed", "sigmas"}
    unused |= {"guidance_interval", "threshold", "mimic", "hires", "hires_strength", "hires_steps", "tile", "tile_overlap"}
    assert {name for name, value in dataclasses.asdict(request).items() if value is None} == unused


def test_a_sampler_that_takes_no_eta_is_given_none(tiny: LatentDiffusion) -> None:
    assert resolve(Request(sampler="euler"), tiny.spec).eta is None
    assert resolve(Request(sampler="euler_ancestral"), tiny.spec).eta == 1


def test_options_are_the_models_unless_another_sampler_is_asked_for(tiny: LatentDiffusion) -> None:
    spec = dataclasses.replace(tiny.spec, sampler="unipc", options=(("order", 3.0),))
    assert resolve(Request(), spec).options == {"order": 3.0, "bh": 2.0, "corrector": 1.0}
    assert resolve(Request(options={"order": 1}), spec).options == {"order": 1.0, "bh": 2.0, "corrector": 1.0}
    assert resolve(Request(sampler="deis"), spec).options == {"order": 3.0}
    assert resolve(Request(sampler="DPM++ 2M SDE Heun"), spec).options == {"heun": 1.0, "s_noise": 1.0}


def test_a_seed_that_is_left_open_is_drawn_anew_each_time(tiny: LatentDiffusion) -> None:
    assert len({resolve(Request(), tiny.spec).seed for _ in range(8)}) == 8


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampler": "eular"}, r"no sampler 'eular' \(did you mean euler.*\): use ddpm, ddim, "),
        ({"spacing": "xyz"}, "no spacing 'xyz': use leading, trailing, "),
        ({"sampler": "DPM++ 2M Kerras"}, r"no sampler 'DPM\+\+ 2M Kerras' \(did you mean DPM\+\+ 2M Karras or .*\): use ddpm, ddim, "),
        ({"spacing": "KERRAS"}, r"no spacing 'KERRAS' \(did you mean karras\?\): use leading, "),
        ({"options": {"rho": 2}}, "option rho is for the spacings karras and polyexponential: leave it out, or take one of them"),
        ({"options": {"rho": 2}, "sigmas": (5.0, 0.0)}, "option rho is for the spacings karras and polyexponential"),
        ({"spacing": "karras", "options": {"rho": 0}}, "rho must be above 0 and at most 100; got 0"),
        ({"sampler": "heun", "eta": 0.5}, "heun takes no eta: leave it out, or use ddim, euler_ancestral, "),
        ({"steps": 1001}, "steps must be at most the 1000 of this model's training; got 1001"),
        ({"width": 30}, "width must be a multiple of 4 with this model: use 28 or 32; got 30"),
        ({"first": 2**32 - 1, "count": 2}, "pictures are numbered up to 4294967295"),
        ({"seed": 2**64 - 1, "first": 3, "noise": "a1111-cpu"}, "noise a1111-cpu counts the seed up for each picture"),
        ({"first": 5000, "noise": "torch"}, "drawn for all pictures at once, at most 4096; got 5001"),
        ({"guidance": 1.0, "negative": "a tree"}, "negative changes nothing at guidance 1"),
        ({"guidance": 1.0, "guidance_rescale": 0.5}, "guidance_rescale changes nothing at guidance 1"),
        ({"guidance": 7.5, "guidance_method": "cfg++"}, "guidance of cfg.. must be from 0 to 1"),
        ({"guidance_interval": (3.0, 1.0)}, "a guidance interval must be two noise levels, the lower one first"),
        ({"mimic": 2.0}, "mimic without threshold changes nothing"),
        ({"variation_seed": 2}, "variation_seed without variation changes nothing"),
        ({"sampler": "DPM++ 2M Karras", "spacing": "trailing"}, "says the spacing karras"),
        ({"eta": 0.5, "options": {"eta": 0.7}, "sampler": "ddim"}, "eta is given twice"),
        ({"options": {"heun": 7}, "sampler": "dpmpp_2m_sde"}, "heun must be 0 or 1; got 7: see `sumi samplers`"),
        ({"options": {"times": 1e6}, "sampler": "restart"}, "must come to 10000 steps or fewer"),
        ({"options": {"order": 3}}, "sampler ddim has no option 'order': it takes eta"),
        ({"sigmas": (3.0,)}, "sigmas must be at least two"),
        ({"sigmas": (3.0, 1.0), "steps": 4}, "2 sigmas are 1 steps, and 4 were asked for"),
        ({"sigmas": (3.0, 1.0), "spacing": "karras"}, "sigmas take the place of the spacing"),
        ({"sigmas": (3.0, 1.0), "image": "x.png", "strength": 0.5}, "sigmas say where to start from the image"),
        ({"image": "x\n.png"}, "image must be a path without control characters"),
        ({"image": "x.png", "strength": 0.1}, "less than one step"),
        ({"image": "x.png", "strength": 1e-9, "exact": True}, "strength 1e-09 leaves no room for exactly 4 steps"),
        ({"image": "x.png", "strength": 0.003, "exact": True}, "at most the 1000 of this model's training; got 4 of 1334"),
        ({"image": "x" * 300}, r"xxx is not to be read \(File name too long\): check the path"),
        ({"exact": True}, "exact without image means nothing: give it, or leave it out"),
        ({"strength": 0.5}, "strength without image means nothing: give it, or leave it out"),
        ({"clip_skip": 3}, "clip skip must be from 1 to 2, the layers of this model's text encoder; got 3"),
        ({"height": 3}, "height must be a multiple of 4 with this model: use 4; got 3"),
    ],
)
def test_what_the_model_cannot_serve_is_refused(tiny: LatentDiffusion, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SumiError, match=message):
        generate(tiny, prompt="a cat", **fields)


WORDS = ("sd15", "sd2", "sd2-v", "sd-turbo", "sdxl", "sdxl-refiner", "sdxl-turbo", "ldm-text", "ldm-text-f4")
NOTHING = ("ldm-faces", "ldm-churches", "pixels")
NEEDS = {
    "sd15-inpaint": "a mask",
    "sd2-inpaint": "a mask",
    "sdxl-inpaint": "a mask",
    "ldm-inpaint": "a picture to fill in",
    "instruct-pix2pix": "a picture to change",
    "x4-upscaler": "a picture to enlarge",
    "ldm-superres": "a picture to enlarge",
    "sd2-depth": "a depth map",
    "ldm-semantic": "a map of classes",
    "sd2-unclip-h": "a picture to make variations of",
    "sd2-unclip-l": "a picture to make variations of",
    "ldm-imagenet": "a class label",
    "ldm-imagenet-f8": "a class label",
}
NEVER = {"ldm-layout": "a layout of boxes", "rdm": "a context other than text"}


@pytest.mark.parametrize("spec", ZOO.values(), ids=ZOO)
def test_a_model_that_needs_more_than_a_prompt_is_refused(spec: ModelSpec) -> None:
    if spec.name in WORDS:
        assert resolve(CAT, spec).guidance == spec.guidance
    elif spec.name in NOTHING:
        assert resolve(Request(), spec).steps == spec.steps
        with pytest.raises(RequestError, match="without words: leave the prompt empty"):
            resolve(CAT, spec)
    elif spec.name in NEVER:
        with pytest.raises(RequestError, match=f"^{spec.name} needs {NEVER[spec.name]}, which a request cannot give: use another model"):
            resolve(Request(), spec)
    else:
        with pytest.raises(RequestError, match=f"^{spec.name} needs {NEEDS[spec.name]}: give it one as [a-z_]+, or use another model"):
            resolve(Request(), spec)


# The stream


def test_the_events_of_a_run(tiny: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "batch_size", lambda *_: 2)
    events = list(stream(tiny, dataclasses.replace(CAT, count=3, first=5)))
    batch = [Step, Step, Step, Decoded]
    assert [type(event) for event in events] == [Encoded, *batch, *batch, Finished]
    encoded, steps, decoded, finished = events[0], *([e for e in events if isinstance(e, kind)] for kind in (Step, Decoded, Finished))
    assert isinstance(encoded, Encoded) and encoded.request == resolve(encoded.request, tiny.spec) and encoded.notices == ()
    assert [(s.index, s.total, s.images) for s in steps] == [(n, 3, i) for i in (range(5, 7), range(7, 8)) for n in (1, 2, 3)]
    assert [s.x.shape for s in steps] == [s.denoised.shape for s in steps] == [(2, 4, 8, 12)] * 3 + [(1, 4, 8, 12)] * 3
    assert [s.sigma.item() for s in steps[:3]] == spaced(tiny.schedule, 3, "trailing")[1:].tolist()
    assert [picture.request.first for d in decoded for picture in d.pictures] == [5, 6, 7]
    assert finished[0].pictures == tuple(picture for d in decoded for picture in d.pictures)


def test_only_ddim_and_plms_end_where_the_schedule_of_published_models_does(tiny: LatentDiffusion) -> None:
    schedule = Schedule(dataclasses.replace(tiny.spec.schedule, final_sigma_zero=False))
    model = dataclasses.replace(tiny, schedule=schedule)
    for sampler in SAMPLERS:
        last = [event for event in stream(model, dataclasses.replace(CAT, sampler=sampler)) if isinstance(event, Step)][-1]
        assert last.sigma == (schedule.sigmas[0] if sampler in ("ddim", "plms") else 0)


def test_words_that_are_lost_are_told(tiny: LatentDiffusion) -> None:
    encoded = next(stream(tiny, Request(prompt="a zebra", negative="a zebra and a hourse")))
    assert isinstance(encoded, Encoded)
    assert [notice.word for notice in encoded.notices] == ["zebra", "hourse"]


def test_nothing_is_computed_before_it_is_asked_for(tiny: LatentDiffusion, calls: list[int]) -> None:
    events = stream(tiny, CAT)
    next(events)
    assert calls == []
    next(events)
    assert calls == [2]


def test_the_callers_gradients_are_left_alone(tiny: LatentDiffusion) -> None:
    for _ in stream(tiny, CAT):
        assert not torch.is_inference_mode_enabled()


# Guidance


def test_guidance_is_one_call_a_step_of_both(tiny: LatentDiffusion, calls: list[int]) -> None:
    generate(tiny, CAT)
    assert calls == [2, 2, 2]


@pytest.mark.parametrize("fields", [{"prompt": ""}, {"guidance": 1.0}, {"negative": "a cat"}])
def test_there_is_no_second_half_where_guidance_leads_nowhere(tiny: LatentDiffusion, calls: list[int], fields: dict[str, Any]) -> None:
    generate(tiny, CAT, **fields)
    assert calls == [1, 1, 1]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "two stars"},
        {"negative": "two stars"},
        {"seed": 8},
        {"first": 1},
        {"steps": 2},
        {"guidance": 5.0},
        {"guidance_rescale": 0.7},
        {"sampler": "heun"},
        {"spacing": "karras"},
        {"eta": 0.5},
        {"width": 16},
        {"height": 24},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_every_field_does_something(tiny: LatentDiffusion, fields: dict[str, Any]) -> None:
    (one,), (other,) = generate(tiny, CAT), generate(tiny, CAT, **fields)
    assert one.latent.shape != other.latent.shape or not torch.allclose(one.latent, other.latent, atol=1e-3)


@pytest.mark.parametrize(("sampler", "spacing"), [*((name, "linspace") for name in SAMPLERS), *(("dpmpp_2m", name) for name in SPACINGS)])
def test_every_sampler_and_every_spacing_makes_a_picture(tiny: LatentDiffusion, sampler: str, spacing: str) -> None:
    (picture,) = generate(tiny, CAT, sampler=sampler, spacing=spacing)
    assert picture.image.size == (24, 16) and picture.image.mode == "RGB"
    assert picture.latent.shape == (4, 8, 12) and torch.isfinite(picture.latent).all() and pixels(picture).std() > 0


# A picture can be made again


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_is_the_same_alone_and_among_others(tiny: LatentDiffusion, sampler: str) -> None:
    pictures = generate(tiny, CAT, sampler=sampler, count=4)
    for number, picture in enumerate(pictures):
        assert (picture.request.first, picture.request.count) == (number, 1)
        (alone,) = generate(tiny, picture.request)
        assert alone.request == picture.request and alike(alone, picture)
    assert not alike(pictures[0], pictures[1])


def test_noise_is_bit_equal_alone_and_among_others() -> None:
    among, alone = Noise(7, range(4), (4, 8, 8)), Noise(7, [2], (4, 8, 8))
    assert all(torch.equal(among(step)[2], alone(step)[0]) for step in (0, 1, 9))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_how_pictures_are_batched_changes_nothing(tiny: LatentDiffusion, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    together = generate(tiny, CAT, sampler="euler_ancestral", count=4)
    monkeypatch.setattr(running, "batch_size", lambda *_: size)
    batched = generate(tiny, CAT, sampler="euler_ancestral", count=4)
    assert all(alike(one, other) for one, other in zip(together, batched, strict=True))


def test_a_run_is_bit_equal_to_itself_and_draws_nothing_from_the_global_generator(tiny: LatentDiffusion) -> None:
    state = torch.get_rng_state()
    one, other = (generate(tiny, CAT, sampler="ddpm", count=2) for _ in range(2))
    assert all(torch.equal(a.latent, b.latent) and (pixels(a) == pixels(b)).all() for a, b in zip(one, other, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_seed_0_is_a_seed(tiny: LatentDiffusion) -> None:
    (zero,), (again,) = (generate(tiny, CAT, seed=0) for _ in range(2))
    assert zero.request.seed == 0 and torch.equal(zero.latent, again.latent)


def test_a_file_carries_the_request_that_makes_it_again(tiny: LatentDiffusion, tmp_path: Path) -> None:
    picture = generate(tiny, prompt="two red stars, naïve ★", count=2, seed=2**64 - 1)[1]
    picture.save(tmp_path / "stars.png")
    assert read(tmp_path / "stars.png") == picture.record and picture.record.request == picture.request
    (alone,) = generate(tiny, read(tmp_path / "stars.png").request)
    assert alike(alone, picture)
    with pytest.raises(OutputError):
        picture.save(tmp_path / "nowhere" / "stars.png")


def test_many_prompts_share_a_batch_and_each_picture_can_be_made_alone(
    tiny: LatentDiffusion, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "batch_size", lambda *_: 2)
    prompts = ["a cat", "", "two stars"]
    pictures = list(illustrate(tiny, prompts, CAT, first=4, steps=2))
    assert calls == [4, 4, 2, 2]
    assert [(picture.request.prompt, picture.request.first) for picture in pictures] == list(zip(prompts, (4, 5, 6), strict=True))
    assert all(alike(generate(tiny, picture.request)[0], picture) for picture in pictures)
    assert list(illustrate(tiny, [])) == []


# Models from folders


def test_a_model_is_the_same_from_its_folder(tiny: LatentDiffusion, tiny_model: Path) -> None:
    model = sumi.load(tiny_model, device="cpu")
    assert model.spec == tiny.spec
    (one,), (other,) = sumi.generate(model, CAT), sumi.generate(tiny, CAT)
    assert alike(one, other)


def test_a_model_of_another_precision_makes_nearly_the_same_picture(tiny: LatentDiffusion, tiny_model: Path) -> None:
    model = load(str(tiny_model), device="cpu", precision="bfloat16")
    assert model.unet.conv_in.weight.dtype == model.autoencoder.post_quant_conv.weight.dtype == torch.bfloat16
    (one,), (other,) = generate(model, CAT), generate(tiny, CAT)
    assert one.latent.dtype == torch.float32 and 0 < abs(pixels(one) - pixels(other)).mean() < 10


def test_a_model_that_cannot_be_loaded_is_an_error_on_one_line(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(CheckpointError):
        load(tmp_path)
    with pytest.raises(SumiError, match="no precision 'half'"):
        load(tiny_model, precision="half")
    with pytest.raises(SumiError, match="device 'abacus' is not available"):
        load(tiny_model, device="abacus")
