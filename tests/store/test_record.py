"""What a picture's file says of how it was made."""

import dataclasses
import math
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from sd_parsers import ParserManager

from sumi.errors import ImageError, ModelWarning, RequestError
from sumi.request import Request
from sumi.store import infotext
from sumi.store.images import save_png
from sumi.store.record import Record, from_infotext, read, to_infotext

WHOLE = Request(
    prompt="a (red:1.2) cat, on a tree: \\(wild\\)",
    negative="blurry,\ndark",
    seed=7,
    first=3,
    steps=20,
    guidance=7.5,
    sampler="euler_ancestral",
    spacing="karras",
    eta=1.0,
    options={"s_noise": 1.0},
    width=512,
    height=768,
)
RECORD = Record(WHOLE, (2, 4), "models/sd15", "sd15", "0123456789ab", "float32", "cpu", "0.1.0")


def test_json_there_and_back() -> None:
    for record in (RECORD, Record(Request(options={"order": 3.0}, sigmas=(3, 1, 0)))):
        assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{}", '{"request": 3}', '{"request": {}, "zebra": 1}', '{"request": {}, "together": [1]}', '{"request": {}, "name": 3}',
     '{"request": {}, "together": [0, -1]}', '{"request": {"steps": "3"}}'],
)  # fmt: skip
def test_a_damaged_record_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(RequestError) as error:
        Record.from_json(text)
    assert "\n" not in str(error.value)


def saved(path: Path, **texts: str) -> Path:
    save_png(Image.new("RGB", (8, 8)), path, texts)
    return path


def test_a_file_is_read_by_its_own_text_first(tmp_path: Path) -> None:
    assert read(saved(tmp_path / "one.png", **RECORD.texts())) == RECORD
    with pytest.raises(ImageError, match="does not say how it was made"):
        read(saved(tmp_path / "other.png", comment="hello"))


def test_other_programs_read_the_parameters(tmp_path: Path) -> None:
    found = ParserManager().parse(saved(tmp_path / "one.png", **RECORD.texts()))
    assert found is not None
    assert [prompt.value for prompt in found.prompts] == [WHOLE.prompt]
    assert [prompt.value for prompt in found.negative_prompts] == [WHOLE.negative]
    (sampler,) = found.samplers
    assert (sampler.name, sampler.parameters["seed" if "seed" in sampler.parameters else "Seed"]) == ("Euler a", "7")
    assert [model.name for model in found.models] == ["sd15"]


STRENGTHS = [(steps, strength) for steps in (1, 7, 20, 49, 150) for strength in (0.02, 0.07, 0.3, 0.55, 0.75, 0.999, 1.0)]


@pytest.mark.parametrize(("steps", "strength"), [(steps, strength) for steps, strength in STRENGTHS if steps * strength >= 1])
def test_a1111_runs_as_many_steps_from_a_picture(steps: int, strength: float) -> None:
    """By what its `setup_img2img_steps` does with the numbers in the text."""
    run = math.floor(steps * strength + 1e-6)
    told = infotext.read(to_infotext(replace(RECORD, request=replace(WHOLE, strength=strength, steps=steps)))).fields
    assert int(min(float(told["Denoising strength"]), 0.999) * int(told["Steps"])) + 1 == run
    larger = replace(WHOLE, hires=2.0, hires_steps=steps, hires_strength=strength)
    told = infotext.read(to_infotext(replace(RECORD, request=larger))).fields
    assert int(told["Hires steps"]) == run
    assert int(int(told["Hires steps"]) / min(float(told["Denoising strength"]), 0.999)) == steps


A1111 = """a cat (sitting:1.2)
Negative prompt: blurry
Steps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1234, Size: 512x640, Model hash: 6ce0161689, \
Model: v1-5-pruned, Clip skip: 2, Version: v1.10.1"""


def test_a_picture_of_a1111_can_be_made_again() -> None:
    record = from_infotext(A1111)
    assert record.model == "v1-5-pruned" and record.together is None and record.digest == ""
    assert record.request == Request(
        prompt="a cat (sitting:1.2)", negative="blurry", steps=25, sampler="dpmpp_2m", spacing="karras", guidance=7, seed=1234,
        width=512, height=640, clip_skip=2, noise="a1111-nv",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Size: 512x640, ", "", "it says no Size"),
        ("Seed: 1234, ", "", "it says no Seed"),
        ("DPM++ 2M", "Zebra", "there is no sampler 'Zebra'"),
        ("Clip skip: 2", "Denoising strength: 0.5", "Denoising strength is more than words"),
        ("Seed: 1234", "Seed: -1", "seed must be from 0"),
        ("CFG scale: 7", "CFG scale: x", "could not convert"),
        ("Clip skip: 2", "RNG: TPU", "RNG is 'TPU'"),
        ("Clip skip: 2", "Emphasis: Ignore", "Emphasis is 'Ignore'"),
        ("Version: v1.10.1", "Noise: native, Version: sumi 0.1.0", "without its own text beside them"),
    ],
)
def test_parameters_that_cannot_be_followed_are_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        from_infotext(A1111.replace(old, new))


def test_another_decoder_is_told() -> None:
    with pytest.warns(ModelWarning, match="was decoded by 'vae-ft-mse"):
        from_infotext(A1111.replace("Clip skip: 2", "VAE: vae-ft-mse-840000"))


def test_a_variation_of_no_strength_is_none() -> None:
    request = from_infotext(A1111.replace("Clip skip: 2", "Variation seed: 5, Variation seed strength: 0")).request
    assert (request.variation, request.variation_seed) == (0, None)


def test_a_picture_is_one_of_those_that_it_names() -> None:
    for together in ((3, 1), (0, 4), (2, 2)):
        assert Record.from_json(dataclasses.replace(RECORD, together=together).to_json()).together == together
    for together in ((5, 8), (0, 3), (0, 2**33)):
        with pytest.raises(RequestError, match="none of those that it names"):
            Record.from_json(dataclasses.replace(RECORD, together=together).to_json())


@pytest.mark.parametrize("noise", ["a1111-cpu", "a1111-nv"])
def test_what_both_have_words_for_comes_back(noise: str) -> None:
    request = replace(WHOLE, noise=noise, first=0, emphasis="plain", clip_skip=2, variation=0.25, variation_seed=9)
    record = dataclasses.replace(RECORD, request=request)
    assert from_infotext(to_infotext(record)).request == replace(request, options=None)


def test_a_picture_of_a_later_number_has_its_own_seed_there() -> None:
    request = replace(WHOLE, noise="a1111-cpu", first=3)
    assert from_infotext(to_infotext(dataclasses.replace(RECORD, request=request))).request.seed == 10
