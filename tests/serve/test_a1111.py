"""A1111's web API, spoken by its own client, webuiapi, with a real server, engine and model; and as other clients are known to speak it."""

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import requests
import sd_parsers
import webuiapi
from PIL import Image

import sumi
from serve.gated import Gate
from serve.serving import KEY, Studio
from sumi.engine.engine import Engine
from sumi.engine.job import Job
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.request import Request
from sumi.serve.a1111_calls import FAMILY

SMALL: dict[str, Any] = {"prompt": "two stars above a tree", "width": 64, "height": 64, "steps": 4, "cfg_scale": 3.0, "seed": 7}
LONG = {**SMALL, "steps": 250}
"""What is not done before it is ended."""
GUARD = 60.0
"""Seconds after which a test takes something to hang."""


@pytest.fixture(scope="module")
def client(served: Studio) -> webuiapi.WebUIApi:
    port = int(served.url.rpartition(":")[2])
    return webuiapi.WebUIApi(port=port, sampler="Euler a", steps=4, username="sumi", password=KEY)


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    return sumi.load(device="cpu")


@pytest.fixture(scope="module")
def drawing() -> Image.Image:
    """A white disc on blue."""
    y, x = np.mgrid[:64, :64]
    pixels = np.where(((y - 32) ** 2 + (x - 32) ** 2 < 300)[..., None], (255, 255, 255), (20, 40, 200))
    return Image.fromarray(pixels.astype(np.uint8))


def post(client: webuiapi.WebUIApi, path: str, body: Any) -> requests.Response:
    return client.session.post(f"{client.baseurl}/{path}", json=body, timeout=GUARD)


def difference(one: Image.Image, other: Image.Image) -> int:
    """Of the levels of any pixel, the largest."""
    return int(np.abs(np.asarray(one.convert("RGB"), np.int16) - np.asarray(other.convert("RGB"), np.int16)).max())


def awaited(engine: Engine, *states: str, group: str | None = FAMILY, count: int = 1) -> list[Job]:
    """Waits until there are so many jobs of a group in these states, and gives them, the oldest first."""
    until = time.monotonic() + GUARD
    while time.monotonic() < until:
        number = engine.jobs.latest()
        found = [job for job in engine.list(group=group, limit=1000) if job.state in states]
        if len(found) >= count:
            return found[::-1]
        engine.events(after=number, wait=1.0)
    raise AssertionError(f"no job is {' or '.join(states)}")


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


class TestTxt2Img:
    @pytest.mark.parametrize(
        ("asked", "same"),
        [
            ({"sampler_name": "Euler a"}, {"sampler": "euler_ancestral", "spacing": "linspace"}),
            ({"sampler_name": "DPM++ 2M", "scheduler": "Karras"}, {"sampler": "dpmpp_2m", "spacing": "karras"}),
            ({"sampler_name": "DDIM", "eta": 0}, {"sampler": "ddim", "spacing": "ddim_uniform"}),
            ({"sampler_name": "Heun", "override_settings": {"randn_source": "CPU"}}, {"sampler": "heun", "noise": "a1111-cpu"}),
            ({"sampler_name": "Euler", "tiling": True, "negative_prompt": "a cat"}, {"seamless": "both", "negative": "a cat"}),
            ({"sampler_name": "Euler", "subseed": 9, "subseed_strength": 0.3}, {"variation": 0.3, "variation_seed": 9}),
        ],
    )
    def test_the_picture_is_the_one_that_generate_makes(
        self, client: webuiapi.WebUIApi, model: LatentDiffusion, asked: dict[str, Any], same: dict[str, Any]
    ) -> None:
        result = client.txt2img(**{"eta": None, **SMALL, **asked})
        request = Request(
            **{
                **{"prompt": SMALL["prompt"], "width": 64, "height": 64, "steps": 4, "guidance": 3.0, "seed": 7},
                **{"noise": "a1111-nv", "sampler": "euler", "spacing": "linspace", **same},
            }
        )
        (expected,) = sumi.generate(model, request)
        assert difference(result.image, expected.image) <= 1
        assert result.info["ignored"] == []

    def test_pictures_have_a1111s_seeds_and_order(self, client: webuiapi.WebUIApi) -> None:
        result = client.txt2img(**SMALL, n_iter=2, batch_size=2)
        assert result.info["seed"] == 7
        assert result.info["all_seeds"] == [7, 8, 9, 10]
        assert [f"Seed: {seed}," in text for seed, text in zip((7, 8, 9, 10), result.info["infotexts"], strict=True)] == [True] * 4
        last = client.txt2img(**{**SMALL, "seed": 10})
        assert difference(result.images[3], last.image) <= 1
        assert difference(result.images[2], last.image) > 50

    def test_what_is_told_of_it(self, client: webuiapi.WebUIApi) -> None:
        result = client.txt2img(**SMALL, sampler_name="DPM++ 2M", restore_faces=True, styles=["noir"])
        info, text = result.info, result.image.text["parameters"]
        assert info["infotexts"] == [text]
        assert (info["prompt"], info["all_prompts"]) == (SMALL["prompt"], [SMALL["prompt"]])
        assert (info["sampler_name"], info["steps"], info["cfg_scale"], info["width"]) == ("DPM++ 2M", 4, 3.0, 64)
        assert info["ignored"] == ["styles", "restore_faces"]
        assert result.parameters["prompt"] == SMALL["prompt"]

    def test_other_programs_read_the_picture(self, client: webuiapi.WebUIApi) -> None:
        result = client.txt2img(**SMALL, sampler_name="DPM++ 2M")
        file = BytesIO(base64.b64decode(result.json["images"][0]))
        found = sd_parsers.ParserManager().parse(Image.open(file))
        assert found is not None
        (sampler,) = found.samplers
        assert (sampler.name, sampler.parameters["steps"], sampler.parameters["seed"]) == ("DPM++ 2M", "4", "7")
        assert [prompt.value for prompt in found.prompts] == [SMALL["prompt"]]

    def test_a_seed_is_drawn_and_told(self, client: webuiapi.WebUIApi) -> None:
        result = client.txt2img(**{**SMALL, "seed": -1})
        again = client.txt2img(**{**SMALL, "seed": result.info["seed"]})
        assert difference(result.image, again.image) <= 1

    def test_hires(self, served: Studio, client: webuiapi.WebUIApi) -> None:
        result = client.txt2img(**SMALL, enable_hr=True, hr_scale=1.5, denoising_strength=0.5, hr_upscaler="Latent")
        assert result.image.size == (96, 96)
        assert (result.info["width"], result.info["denoising_strength"], result.info["ignored"]) == (96, 0.5, ["hr_upscaler"])
        assert served.engine.list(group=FAMILY)[0].request.hires_steps == 8  # of which the last 4

    def test_what_is_not_to_be_sent_or_kept(self, served: Studio, client: webuiapi.WebUIApi) -> None:
        before = served.engine.gallery().total
        assert client.txt2img(**SMALL).images
        assert served.engine.gallery().total == before
        assert client.txt2img(**SMALL, save_images=True, send_images=False).json["images"] == []
        assert served.engine.gallery().total == before + 1


class TestImg2Img:
    def test_a_little_strength_changes_a_little(self, served: Studio, client: webuiapi.WebUIApi, drawing: Image.Image) -> None:
        little = client.img2img([drawing], **SMALL, denoising_strength=0.3)
        much = client.img2img([drawing], **SMALL, denoising_strength=0.9)
        close, far = (np.abs(np.asarray(each.image, float) - np.asarray(drawing, float)).mean() for each in (little, much))
        assert close < far
        assert [job.steps for job in served.engine.list(group=FAMILY, limit=2)] == [4, 2]  # int(strength * 4) + 1
        assert "init_images" not in little.parameters
        assert little.info["ignored"] == []

    @pytest.mark.parametrize("invert", [0, 1])
    @pytest.mark.parametrize("kind", ["L", "opacity"])
    def test_what_is_outside_of_the_mask_stays(self, client: webuiapi.WebUIApi, drawing: Image.Image, invert: int, kind: str) -> None:
        left = np.zeros((64, 64), np.uint8)
        left[:, :32] = 255
        mask = Image.fromarray(left) if kind == "L" else Image.merge("RGBA", [*Image.new("RGB", (64, 64)).split(), Image.fromarray(left)])
        result = client.img2img(
            [drawing], mask_image=mask, **SMALL, inpainting_mask_invert=invert, mask_blur=0, inpainting_fill=1, inpaint_full_res=False
        )
        changed = np.abs(np.asarray(result.image, int) - np.asarray(drawing, int)).max(-1) > 0
        made, kept = (changed[:, 32:], changed[:, :32]) if invert else (changed[:, :32], changed[:, 32:])
        assert not kept.any()
        assert made.mean() > 0.5
        assert result.info["ignored"] == []

    def test_what_of_inpainting_is_not_followed(self, client: webuiapi.WebUIApi, drawing: Image.Image) -> None:
        mask = Image.fromarray(np.pad(np.full((32, 32), 255, np.uint8), 16))
        result = client.img2img([drawing], mask_image=mask, **SMALL, denoising_strength=0.5)
        assert sorted(result.info["ignored"]) == ["inpaint_full_res", "inpainting_fill"]

    def test_a_picture_of_another_shape_is_stretched_or_cropped(self, client: webuiapi.WebUIApi, drawing: Image.Image) -> None:
        wide = Image.new("RGB", (128, 64), "red")
        wide.paste(drawing, (32, 0))
        settings = {**SMALL, "denoising_strength": 0.1}
        cropped = client.img2img([wide], **settings, resize_mode=1).image
        stretched = client.img2img([wide], **settings, resize_mode=0).image
        assert difference(cropped, client.img2img([drawing], **settings).image) <= 1
        corner = np.asarray(stretched, int)[28:36, 2:8].mean((0, 1))
        assert corner[0] > corner[2]  # still red
        assert client.img2img([wide], **settings, resize_mode=2).image.size == (64, 64)

    def test_several_pictures_are_a_batch(self, client: webuiapi.WebUIApi, drawing: Image.Image) -> None:
        settings = {**SMALL, "denoising_strength": 0.1}
        result = client.img2img([drawing, Image.new("RGB", (64, 64), "red")], **settings, batch_size=2)
        assert result.info["all_seeds"] == [7, 8]
        assert difference(result.images[0], client.img2img([drawing], **settings).image) <= 1
        with pytest.raises(RuntimeError, match="init_images"):
            client.img2img([drawing, drawing], **settings)

    def test_nothing_to_start_from(self, client: webuiapi.WebUIApi) -> None:
        with pytest.raises(RuntimeError, match="init_images") as refused:
            client.img2img([], **SMALL)
        assert refused.value.args[0] == 400


class TestWhileItRuns:
    def test_idle_is_nothing(self, client: webuiapi.WebUIApi) -> None:
        client.util_wait_for_ready()
        told = client.get_progress()
        assert (told["progress"], told["state"]["job_count"], told["current_image"]) == (0.0, 0, None)

    def test_progress_then_interrupt(
        self, served: Studio, served_gate: Gate, client: webuiapi.WebUIApi, background: ThreadPoolExecutor
    ) -> None:
        page = served.engine.submit(Request(**{"prompt": "a cat", "steps": 2}), group="page", priority=-1)
        awaited(served.engine, "running", group="page")
        call: Future[Any] = background.submit(client.txt2img, **LONG, n_iter=2)
        awaited(served.engine, "queued")
        served_gate.let(3 + 3)  # of the page's job, and of theirs
        until, seen = time.monotonic() + GUARD, list[dict[str, Any]]()
        while not seen or seen[-1]["current_image"] is None:
            assert time.monotonic() < until
            seen.append(client.get_progress())
        last = seen[-1]
        assert 0 < last["progress"] <= 1 and last["eta_relative"] > 0
        assert (last["state"]["job_count"], last["state"]["job_no"], last["state"]["sampling_steps"]) == (2, 0, 250)
        image = Image.open(BytesIO(base64.b64decode(last["current_image"])))
        assert image.format == "PNG"
        assert client.session.get(f"{client.baseurl}/progress?skip_current_image=true").json()["current_image"] is None
        assert client.interrupt() == {}
        result = call.result(GUARD)
        assert result.images == []
        assert result.info["interrupted"] is True
        assert [job.state for job in served.engine.list(group=FAMILY, limit=2)] == ["cancelled", "cancelled"]
        assert awaited(served.engine, "done", group="page")[-1].id == page.id
        client.util_wait_for_ready()

    def test_skip_goes_on_with_the_next(
        self, served: Studio, served_gate: Gate, client: webuiapi.WebUIApi, background: ThreadPoolExecutor
    ) -> None:
        served_gate.let(8)  # what was cancelled before may still have to see it
        call: Future[Any] = background.submit(client.txt2img, **LONG, n_iter=2)
        first = awaited(served.engine, "running")[0]
        assert client.skip() == {}
        served_gate.let(8)
        second = awaited(served.engine, "running", "queued")[-1]
        assert second.id != first.id and second.request.first == 1
        awaited(served.engine, "running")
        assert client.skip() == {}
        assert call.result(GUARD).images == []

    def test_who_goes_away_wants_nothing(self, served: Studio, served_gate: Gate) -> None:
        connection = HTTPConnection("127.0.0.1", int(served.url.rpartition(":")[2]))
        connection.request("POST", "/sdapi/v1/txt2img", json.dumps(LONG), {"content-type": "application/json", **served.headers})
        served_gate.let(8)
        (job,) = awaited(served.engine, "running")
        connection.close()
        until = time.monotonic() + GUARD
        while not served.engine.get(job.id).ended:
            assert time.monotonic() < until
            served.engine.events(job.id, after=served.engine.jobs.latest(), wait=1.0)
        assert served.engine.get(job.id).state == "cancelled"


class TestLists:
    def test_samplers_and_schedulers(self, client: webuiapi.WebUIApi) -> None:
        assert {"Euler a", "DPM++ 2M", "DPM++ SDE", "UniPC", "er_sde"} <= set(client.util_get_sampler_names())
        assert {"automatic", "karras", "sgm_uniform", "ddim", "beta"} <= set(client.util_get_scheduler_names())

    def test_models(self, client: webuiapi.WebUIApi) -> None:
        (found,) = client.get_sd_models()
        assert {"title", "model_name", "name", "hash", "sha256", "filename", "config"} <= set(found)
        assert "/" not in found["filename"]
        assert client.util_get_current_model() == found["title"]
        client.util_set_model(found["title"])
        assert client.util_get_current_model() == found["title"]

    def test_the_rest(self, client: webuiapi.WebUIApi) -> None:
        empty = [client.get_loras(), client.get_hypernetworks(), client.get_face_restorers(), client.get_realesrgan_models()]
        empty += [client.get_prompt_styles(), client.get_sd_vae(), client.get_latent_upscale_modes()]
        assert all(each == [] for each in empty)
        assert client.get_embeddings() == {"loaded": {}, "skipped": {}}
        assert client.get_scripts() == {"txt2img": [], "img2img": []}
        assert client.refresh_checkpoints() == {}
        memory = client.get_memory()
        assert 0 < memory["ram"]["used"] < memory["ram"]["total"] and set(memory) == {"ram", "cuda"}
        assert KEY not in json.dumps(client.get_cmd_flags())
        assert "None" in [row["name"] for row in client.get_upscalers()]
        assert (client.controlnet_version(), client.controlnet_model_list(), client.controlnet_module_list()) == (2, [], [])
        for path in ("sd-modules", "script-info", "extensions"):
            assert client.session.get(f"{client.baseurl}/{path}").json() == []
        for path in ("refresh-vae", "unload-checkpoint", "reload-checkpoint"):
            assert post(client, path, None).json() == {}

    def test_options(self, client: webuiapi.WebUIApi) -> None:
        before = client.get_options()
        assert before["sd_model_checkpoint"] == "sumi" and "forge_preset" not in before
        assert client.set_options({**before, "CLIP_stop_at_last_layers": 2, "live_previews_enable": True}) == {
            "ignored": ["live_previews_enable"]
        }
        assert client.txt2img(**SMALL).info["clip_skip"] == 2
        client.set_options(before)
        assert client.get_options() == before


class TestExtras:
    def test_png_info(self, client: webuiapi.WebUIApi, drawing: Image.Image) -> None:
        made = client.txt2img(**SMALL).image
        result = client.png_info(made)
        assert result.info == made.text["parameters"]
        assert result.json["items"]["parameters"] == result.info
        assert (result.parameters["Prompt"], result.parameters["Seed"], result.parameters["Size-1"]) == (SMALL["prompt"], "7", "64")
        assert client.png_info(drawing).json == {"info": "", "items": {}, "parameters": {}}

    def test_larger_by_interpolation(self, client: webuiapi.WebUIApi, drawing: Image.Image) -> None:
        found = client.extra_single_image(drawing, upscaler_1="Lanczos", upscaling_resize=2.5).image
        assert difference(found, drawing.resize((160, 160), Image.Resampling.LANCZOS)) == 0
        assert difference(client.extra_single_image(drawing).image, drawing) == 0

    def test_to_a_size_cropped_or_not(self, client: webuiapi.WebUIApi, drawing: Image.Image) -> None:
        sizes: dict[str, Any] = {"resize_mode": 1, "upscaling_resize_w": 100, "upscaling_resize_h": 80, "upscaler_1": "Bicubic"}
        whole = client.extra_single_image(drawing, **sizes, upscaling_crop=False).image
        assert difference(whole, drawing.resize((100, 100), Image.Resampling.BICUBIC)) == 0
        assert difference(client.extra_single_image(drawing, **sizes).image, whole.crop((0, 10, 100, 90))) == 0

    def test_two_are_blended(self, client: webuiapi.WebUIApi, drawing: Image.Image) -> None:
        found = client.extra_single_image(drawing, upscaler_1="Lanczos", upscaler_2="Bicubic", extras_upscaler_2_visibility=0.25).image
        one, other = (drawing.resize((128, 128), filter) for filter in (Image.Resampling.LANCZOS, Image.Resampling.BICUBIC))
        assert difference(found, Image.blend(one, other, 0.25)) <= 1

    def test_larger_by_the_model(self, client: webuiapi.WebUIApi, drawing: Image.Image) -> None:
        found = client.extra_single_image(drawing.resize((16, 16)), upscaler_1="sumi 4x", upscaling_resize=4).image
        assert found.size == (64, 64)
        assert np.abs(np.asarray(found, float) - np.asarray(drawing, float)).mean() < 40

    def test_several(self, client: webuiapi.WebUIApi, drawing: Image.Image) -> None:
        found = client.extra_batch_images([drawing, drawing.resize((32, 32))], upscaler_1="Lanczos", upscaling_resize=2).images
        assert [image.size for image in found] == [(128, 128), (64, 64)]
        listed = [{"image": webuiapi.raw_b64_img(drawing), "name": "x"}]  # as clients from npm have it
        reply = post(client, "extra-batch-images", {"image_list": listed, "upscaler_1": "Lanczos"})
        assert len(reply.json()["images"]) == 1

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ({"upscaler_1": "ESRGAN"}, "Lanczos"),
            ({"gfpgan_visibility": 1}, "gfpgan_visibility"),
            ({"upscaler_1": "Lanczos", "upscaling_resize": 40}, "pixels"),
        ],
    )
    def test_refused(self, client: webuiapi.WebUIApi, drawing: Image.Image, asked: dict[str, Any], said: str) -> None:
        with pytest.raises(RuntimeError, match=said) as refused:
            client.extra_single_image(drawing, **asked)
        assert refused.value.args[0] == 400


class TestRefused:
    @pytest.mark.parametrize(
        ("asked", "status", "said"),
        [
            ({"sampler_name": "Euler b"}, 400, "Euler a"),
            ({"script_name": "X/Y/Z plot"}, 422, "X/Y/Z plot"),
            ({"controlnet_units": [webuiapi.ControlNetUnit()], "alwayson_scripts": {}}, 422, "ControlNet"),
            ({"override_settings": {"sd_model_checkpoint": "v1-5"}}, 400, "v1-5"),
            ({"width": 100_000}, 400, "width"),
            ({"n_iter": 1000}, 400, "n_iter"),
            ({"steps": 100_000}, 400, "steps"),
        ],
    )
    def test_with_the_reason(self, client: webuiapi.WebUIApi, asked: dict[str, Any], status: int, said: str) -> None:
        with pytest.raises(RuntimeError, match=said) as refused:
            client.txt2img(**{**SMALL, **asked})
        assert refused.value.args[0] == status
        assert "detail" in json.loads(refused.value.args[1])

    def test_interrogate(self, client: webuiapi.WebUIApi, drawing: Image.Image) -> None:
        with pytest.raises(RuntimeError, match="describe it yourself") as refused:
            client.interrogate(drawing)
        assert refused.value.args[0] == 422

    def test_without_the_key(self, served: Studio) -> None:
        reply = requests.post(f"{served.url}/sdapi/v1/txt2img", json=SMALL, timeout=GUARD)
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"].startswith("Basic")

    @pytest.mark.parametrize("image", ["http://localhost/x.png", "/etc/passwd", "AAAA", ""])
    def test_pictures_that_are_none(self, client: webuiapi.WebUIApi, image: str) -> None:
        assert post(client, "img2img", {**SMALL, "init_images": [image]}).status_code == 400


NPM = {
    **{"enable_hr": False, "hr_scale": 2, "hr_upscaler": "Latent", "hr_second_pass_steps": 0, "hr_resize_x": 0, "hr_resize_y": 0},
    **{"denoising_strength": 0.7, "firstphase_width": 0, "firstphase_height": 0, "styles": [], "subseed": -1, "subseed_strength": 0.0},
    **{"seed_resize_from_h": 0, "seed_resize_from_w": 0, "batch_size": 1, "n_iter": 1, "restore_faces": False, "tiling": False},
    **{"do_not_save_samples": False, "do_not_save_grid": False, "negative_prompt": "", "eta": 1.0, "s_churn": 0, "s_tmax": 0},
    **{"s_tmin": 0, "s_noise": 1, "override_settings": {}, "override_settings_restore_afterwards": True, "script_args": []},
    **{"script_name": None, "send_images": True, "save_images": False, "alwayson_scripts": {"ControlNet": {"args": []}}},
    **{"sampler_name": "Euler a", "use_deprecated_controlnet": False},
}
"""As the packages stable-diffusion-api and a1111-webui-api send it."""
SILLY_TAVERN = {
    **{"negative_prompt": "", "sampler_name": "DPM++ 2M", "scheduler": "Automatic", "restore_faces": False, "enable_hr": False},
    **{"hr_upscaler": "Latent", "hr_scale": 1.5, "hr_additional_modules": [], "denoising_strength": 0.7, "hr_second_pass_steps": 0},
    **{"override_settings": {"CLIP_stop_at_last_layers": 1}, "override_settings_restore_afterwards": True, "clip_skip": 1},
    **{"save_images": True, "send_images": True, "do_not_save_grid": False, "do_not_save_samples": False},
}
NODE = {
    **{"enable_hr": False, "sampler_index": "Euler a", "styles": None, "hr_scale": None, "seed_resize_from_h": -1, "eta": None},
    **{"override_settings": {"filter_nsfw": False}, "firstphase_width": None, "s_tmin": None},
}


class TestOtherClients:
    @pytest.mark.parametrize(
        ("sent", "ignored"),
        [
            ({}, []),
            (NPM, []),
            (SILLY_TAVERN, ["clip_skip"]),
            (NODE, ["override_settings.filter_nsfw"]),
        ],
        ids=["open-webui", "npm", "sillytavern", "node"],
    )
    def test_what_they_send(self, client: webuiapi.WebUIApi, sent: dict[str, Any], ignored: list[str]) -> None:
        reply = post(client, "txt2img", {**{"batch_size": 1}, **SMALL, **sent})
        assert reply.status_code == 200
        found = reply.json()
        assert base64.b64decode(found["images"][0], validate=True).startswith(b"\x89PNG")
        assert json.loads(found["info"])["ignored"] == ignored
