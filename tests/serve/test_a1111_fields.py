"""A1111's fields: what becomes of them, and which are said to be ignored. Its own formulas, and what its real client sends."""

from types import SimpleNamespace
from typing import Any

import pytest
import webuiapi
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sumi.diffusion.spacings import SPACINGS
from sumi.errors import RequestError, SumiError
from sumi.request import Request
from sumi.serve.a1111_fields import Wish, larger, run, wish
from sumi.serve.a1111_given import NOTHING_ASKED, Given
from sumi.serve.a1111_lists import samplers, schedulers
from sumi.serve.a1111_options import Options
from sumi.serve.problems import Refusal

STUDIO: Any = SimpleNamespace(catalogue=SimpleNamespace(names=("sumi", "v1-5-pruned", "Dream.v2"), first="sumi"))


@pytest.fixture
def options() -> Options:
    return Options(STUDIO)


def wished(fields: dict[str, Any]) -> tuple[Wish, list[str]]:
    """What they come to, and which of them are ignored."""
    sent = Given(fields)
    values, ignored = Options(STUDIO).overridden(sent.mapping("override_settings"), "override_settings.")
    found = wish(sent, values)
    return Wish(larger(sent, found.request, (64, 64)), found.batches, found.size), [*sent.ignored(), *ignored]


def recorded(call: str, **asked: Any) -> dict[str, Any]:
    """What webuiapi sends."""
    sent: list[dict[str, Any]] = []
    client = webuiapi.WebUIApi(port=1)
    client.session.post = lambda url, json: sent.append(json) or SimpleNamespace(status_code=200, json=lambda: {})
    getattr(client, call)(**asked)
    return sent[0]


class TestDefaults:
    def test_nothing_asked_is_what_a1111_draws(self) -> None:
        found, ignored = wished({})
        request = found.request
        assert (request.steps, request.guidance, request.sampler, request.spacing) == (50, 7.0, "euler", "linspace")
        assert (request.noise, request.width, request.height) == ("a1111-nv", None, None)
        assert request.seed is not None and 0 <= request.seed < 2**32
        assert not ignored

    def test_null_is_the_default(self) -> None:
        found, ignored = wished(dict.fromkeys(("steps", "seed", "sampler_name", "tiling", "styles", "eta", "unheard_of")))
        assert found.request.steps == 50
        assert not ignored

    def test_the_clients_own_defaults_are_followed_all(self) -> None:
        sent = recorded("txt2img", prompt="a cat")
        assert len(sent) > 40
        found, ignored = wished(sent)
        assert ignored == ["send_images", "save_images"]  # which are about pictures that are made
        assert found.requests() == [found.request]
        assert (found.request.sampler, found.request.steps, found.request.width) == ("euler_ancestral", 20, 512)

    def test_two_wishes_have_two_seeds(self) -> None:
        assert wished({"seed": -1})[0].request.seed != wished({"seed": -1})[0].request.seed


class TestNumbers:
    @pytest.mark.parametrize("value", [20, 20.0, "20"])
    def test_whole(self, value: object) -> None:
        assert Given({"steps": value}).whole("steps", 1) == 20

    @pytest.mark.parametrize("value", [20.5, "many", [20], {"a": 1}, "nan", "1e999"])
    def test_not_whole(self, value: object) -> None:
        with pytest.raises(RequestError, match=r"^steps must be a "):
            Given({"steps": value}).whole("steps", 1)

    def test_a_seed_keeps_all_of_its_digits(self) -> None:
        assert Given({"seed": 2**64 - 1}).whole("seed", -1) == Given({"seed": str(2**64 - 1)}).whole("seed", -1) == 2**64 - 1

    @pytest.mark.parametrize("fields", [{"prompt": ["a"]}, {"alwayson_scripts": []}, {"tiling": "yes"}, {"override_settings": "x"}])
    def test_other_types(self, fields: dict[str, Any]) -> None:
        with pytest.raises(RequestError, match="must be"):
            wished(fields)

    @pytest.mark.parametrize("fields", [{"n_iter": 0}, {"batch_size": -1}, {"steps": 0}, {"width": 0}, {"seed": -2}, {"seed": 2**64}])
    def test_out_of_range(self, fields: dict[str, Any]) -> None:
        with pytest.raises(RequestError, match=next(iter(fields))):
            wished(fields)


class TestSamplers:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"sampler_name": "DPM++ 2M"}, ("dpmpp_2m", "karras")),
            ({"sampler_name": "DPM++ 2M", "scheduler": "automatic"}, ("dpmpp_2m", "karras")),
            ({"sampler_name": "DPM++ 2M", "scheduler": "Exponential"}, ("dpmpp_2m", "exponential")),
            ({"sampler_name": "DPM++ 2M Karras"}, ("dpmpp_2m", "karras")),
            ({"sampler_name": "Euler a", "scheduler": "sgm_uniform"}, ("euler_ancestral", "sgm_uniform")),
            ({"sampler_index": "Heun"}, ("heun", "linspace")),
            ({"sampler_name": "", "sampler_index": "LMS"}, ("lms", "linspace")),
            ({"sampler_name": "k_euler_a"}, ("euler_ancestral", "linspace")),
            ({"sampler_name": "DPM++ 3M SDE"}, ("dpmpp_3m_sde", "exponential")),
            ({"sampler_name": "er_sde"}, ("er_sde", None)),
        ],
    )
    def test_by_a1111s_names(self, fields: dict[str, Any], expected: tuple[str, str]) -> None:
        request = wished(fields)[0].request
        assert (request.sampler, request.spacing) == expected

    def test_ddim_has_its_own_levels_whatever_the_scheduler_is(self) -> None:
        found, ignored = wished({"sampler_name": "DDIM", "scheduler": "Karras"})
        assert found.request.spacing == "ddim_uniform"
        assert ignored == ["scheduler"]

    @pytest.mark.parametrize("row", samplers(), ids=lambda row: row["name"])
    def test_whatever_is_listed_can_be_asked_for(self, row: dict[str, Any]) -> None:
        named = wished({"sampler_name": row["name"], "seed": 1})
        assert all(wished({"sampler_name": alias, "seed": 1}) == named for alias in row["aliases"])
        if automatic := row["options"].get("scheduler"):
            assert wished({"sampler_name": row["name"], "scheduler": automatic, "seed": 1})[0] == named[0]

    @pytest.mark.parametrize("row", schedulers(), ids=lambda row: row["name"])
    def test_schedulers_by_name_and_label(self, row: dict[str, Any]) -> None:
        by_name, by_label = (wished({"scheduler": row[key], "seed": 1}) for key in ("name", "label"))
        assert by_name == by_label
        assert by_name[0].request.spacing in SPACINGS
        assert not by_name[1]

    def test_unknown_ones_name_those_that_are_near(self) -> None:
        with pytest.raises(RequestError, match=r"DPM\+\+ 2M"):
            wished({"sampler_name": "DPM+ 2M"})
        with pytest.raises(RequestError, match="karras"):
            wished({"scheduler": "Karas"})

    def test_eta_and_churn_go_where_they_are_taken(self) -> None:
        found, ignored = wished({"sampler_name": "Euler", "eta": 0.5, "s_churn": 2, "s_tmin": 0.1, "s_tmax": 0, "s_noise": 1.01})
        assert found.request.eta is None
        assert found.request.options == {"s_churn": 2.0, "s_tmin": 0.1, "s_noise": 1.01}
        assert ignored == ["eta"]
        found, ignored = wished({"sampler_name": "DDIM", "eta": 0.5, "s_churn": 2})
        assert found.request.eta == 0.5
        assert ignored == ["s_churn"]

    def test_s_tmax_0_is_infinity(self) -> None:
        assert wished({"sampler_name": "Euler", "s_churn": 1, "s_tmax": 0})[0].request.options == {"s_churn": 1.0}
        assert wished({"sampler_name": "Euler", "s_churn": 1, "s_tmax": 3})[0].request.options == {"s_churn": 1.0, "s_tmax": 3.0}


class TestSeeds:
    """A1111: all_seeds[i] = seed + i without a variation, seed with one; all_subseeds[i] = subseed + i."""

    def test_pictures_are_numbered_through_all_batches(self) -> None:
        found, _ = wished({"seed": 5, "n_iter": 3, "batch_size": 2})
        assert [(request.seed, request.first, request.count) for request in found.requests()] == [(5, 0, 2), (5, 2, 2), (5, 4, 2)]
        assert [found.seeds(number)[0] for number in range(6)] == [5, 6, 7, 8, 9, 10]

    def test_of_a_variation_the_other_seed_moves_on(self) -> None:
        found, _ = wished({"seed": 5, "subseed": 90, "subseed_strength": 0.25, "batch_size": 2})
        assert (found.request.variation, found.request.variation_seed) == (0.25, 90)
        assert [found.seeds(number) for number in range(2)] == [(5, 90), (5, 91)]

    @pytest.mark.parametrize(("source", "noise"), [("CPU", "a1111-cpu"), ("GPU", "a1111-nv"), ("NV", "a1111-nv")])
    def test_whose_noise(self, source: str, noise: str) -> None:
        assert wished({"override_settings": {"randn_source": source}})[0].request.noise == noise


class TestStrength:
    """`setup_img2img_steps` and the samplers' `sample_img2img`: t_enc + 1 steps of `steps`, from level t_enc on."""

    @pytest.mark.parametrize("steps", [1, 7, 20, 50])
    @pytest.mark.parametrize("strength", [0.0, 0.04, 0.4, 0.75, 0.97, 1.0])
    def test_as_many_steps_as_a1111_runs(self, steps: int, strength: float) -> None:
        of, share = run(steps, strength, fixed=False)
        assert of == steps
        assert int(of * share + 1e-6) == int(min(strength, 0.999) * steps) + 1

    @pytest.mark.parametrize("steps", [1, 7, 20])
    @pytest.mark.parametrize("strength", [0.04, 0.4, 0.7, 1.0])
    def test_exactly_as_many_as_asked_for(self, steps: int, strength: float) -> None:
        of, share = run(steps, strength, fixed=True)
        assert of == int(steps / min(strength, 0.999))
        assert int(of * share + 1e-6) == steps

    def test_hires_runs_its_steps_and_ignores_what_it_cannot_do(self) -> None:
        found, ignored = wished({"enable_hr": True, "hr_scale": 1.5, "steps": 20, "denoising_strength": 0.7, "hr_upscaler": "Latent"})
        assert (found.request.hires, found.request.hires_steps, found.request.steps) == (1.5, 28, 20)
        assert found.request.hires_strength == pytest.approx(20 / 28)
        assert ignored == ["hr_upscaler"]

    def test_hires_to_a_size(self) -> None:
        fields = {"enable_hr": True, "width": 64, "height": 96, "denoising_strength": 0.5}
        assert wished({**fields, "hr_resize_x": 128})[0].request.hires == 2.0
        assert wished({**fields, "hr_resize_x": 96, "hr_resize_y": 144})[0].request.hires == 1.5
        with pytest.raises(RequestError, match="hr_resize_x"):
            wished({**fields, "hr_resize_x": 128, "hr_resize_y": 128})

    def test_plain_txt2img_has_no_strength(self) -> None:
        found, ignored = wished({"denoising_strength": 0.7, "firstphase_width": 0})
        assert found.request.hires is None and found.request.strength is None
        assert not ignored


class TestIgnored:
    def test_what_is_not_followed_is_named(self) -> None:
        asked = {"restore_faces": True, "styles": ["noir"], "seed_resize_from_w": 512, "clip_skip": 2, "refiner_checkpoint": "x"}
        assert wished({**asked, "prompt": "a"})[1] == list(asked)

    def test_a_negative_prompt_without_guidance(self) -> None:
        found, ignored = wished({"cfg_scale": 1, "negative_prompt": "ugly"})
        assert found.request == Request(**{**found.request.to_dict(), "negative": ""})
        assert ignored == ["negative_prompt"]

    @pytest.mark.parametrize(
        "scripts",
        [
            {"script_name": "", "script_args": []},
            {"alwayson_scripts": {"ControlNet": {"args": []}}},
            {"alwayson_scripts": {"controlnet": {"args": [{"enabled": False, "image": "x"}]}}},
            {"alwayson_scripts": {"ADetailer": {"args": [False]}, "animatediff": {}}},
        ],
    )
    def test_scripts_that_do_nothing(self, scripts: dict[str, Any]) -> None:
        assert not wished(scripts)[1]

    @pytest.mark.parametrize(
        ("scripts", "name"),
        [
            ({"script_name": "X/Y/Z plot"}, "X/Y/Z plot"),
            ({"alwayson_scripts": {"ControlNet": {"args": [{"image": "x", "model": "canny"}]}}}, "ControlNet"),
            (recorded("txt2img", sag=webuiapi.Sag(), alwayson_scripts={}), "Self Attention Guidance"),
        ],
    )
    def test_scripts_that_would(self, scripts: dict[str, Any], name: str) -> None:
        with pytest.raises(Refusal, match=name) as refused:
            wished(scripts)
        assert refused.value.status == 422


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.sampled_from(["args", "enabled"]), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = sorted({*recorded("txt2img"), *recorded("img2img"), *NOTHING_ASKED})


@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6))
def test_whatever_is_sent_is_taken_or_refused(fields: dict[str, Any]) -> None:
    try:
        found, ignored = wished(fields)
        assert found.batches * found.size > 64 or len(found.requests()) == found.batches
    except SumiError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
    else:
        assert set(ignored) <= {*fields, *(f"override_settings.{name}" for name in fields.get("override_settings") or {})}


class TestOptions:
    def test_the_whole_dict_comes_back(self, options: Options) -> None:
        before = options.all
        assert options.set({**before, "CLIP_stop_at_last_layers": 2}) == []
        assert options.all == {**before, "CLIP_stop_at_last_layers": 2}
        assert "forge_preset" not in before

    def test_others_are_named(self, options: Options) -> None:
        assert options.set({"show_progress_every_n_steps": 3, "samples_format": "jpg", "sd_vae": "Automatic"}) == [
            "show_progress_every_n_steps",
            "samples_format",
        ]

    @pytest.mark.parametrize("title", ["Dream.v2", "dream.V2", "Dream.v2.safetensors", "Dream.v2.safetensors [9f3c0011aa]"])
    def test_models_by_their_titles(self, options: Options, title: str) -> None:
        options.set({"sd_model_checkpoint": title})
        assert options.all["sd_model_checkpoint"] == "Dream.v2"

    def test_all_or_nothing(self, options: Options) -> None:
        before = options.all
        with pytest.raises(RequestError, match="v1-5-pruned"):
            options.set({"CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": "v1-5-prund"})
        with pytest.raises(RequestError, match="randn_source"):
            options.set({"CLIP_stop_at_last_layers": 2, "randn_source": "TPU"})
        assert options.all == before

    def test_overrides_do_not_last(self, options: Options) -> None:
        values, ignored = options.overridden({"emphasis": "No norm", "sd_vae": "x.pt"}, "override_settings.")
        assert values["emphasis"] == "No norm"
        assert ignored == ["override_settings.sd_vae"]
        assert options.all["emphasis"] == "Original"
