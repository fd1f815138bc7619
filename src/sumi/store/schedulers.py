"""The forward process and the sampler as diffusers' scheduler_config.json: JSON <-> `ScheduleConfig`, sampler and spacing."""

from sumi.config import ScheduleConfig
from sumi.store.configs import Fixed, Json, check, choice, sound, written

SCHEDULE: Fixed = {"trained_betas": (None,), "thresholding": (False,)}
OTHER: Fixed = {"sigma_data": (None,), "timestep_type": ("discrete",)}
"""Fields of schedulers that are told the noise in another way."""

BETAS = {"scaled_linear": "scaled_linear", "linear": "linear", "cosine": "squaredcos_cap_v2"}
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
SAMPLERS = {
    "DDIMScheduler": "ddim",
    "PNDMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "HeunDiscreteScheduler": "heun",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
}
KARRAS = ("EulerDiscreteScheduler", "HeunDiscreteScheduler", "DPMSolverMultistepScheduler")
"""Those that can be asked for Karras' spacing."""
LEADING = ("DDIMScheduler", "PNDMScheduler", "DDPMScheduler")
"""Those that are spaced so where the file does not say."""


def scheduler_class(sampler: str) -> str:
    """diffusers' name of a sampler; its DDIM for those that it does not have."""
    return next((theirs for theirs, ours in SAMPLERS.items() if ours == sampler), "DDIMScheduler")


def schedule_json(config: ScheduleConfig, spacing: str, sampler: str = "ddim") -> Json:
    """diffusers' scheduler of a sampler."""
    kind = scheduler_class(sampler)
    ends = {"set_alpha_to_one": config.final_sigma_zero} if kind == "DDIMScheduler" else {}
    karras = {"use_karras_sigmas": True} if spacing == "karras" and kind in KARRAS else {}
    return {
        "_class_name": kind,
        **written(SCHEDULE),
        "beta_schedule": BETAS[config.kind],
        "beta_start": config.start,
        "beta_end": config.end,
        "num_train_timesteps": config.steps,
        "rescale_betas_zero_snr": config.zero_terminal_snr,
        "prediction_type": PREDICTIONS[config.prediction],
        "steps_offset": config.steps_offset,
        "timestep_spacing": "leading" if spacing == "karras" else spacing,
        "clip_sample": False,
        **ends,
        **karras,
    }


def schedule_config(json: Json) -> ScheduleConfig:
    """The reverse of `schedule_json`, of any common scheduler. `clip_sample` is passed over: latents are never clipped."""
    check(json, {**SCHEDULE, **OTHER})
    last = json.get("set_alpha_to_one", json.get("_class_name") != "PNDMScheduler")
    return sound(
        ScheduleConfig(
            kind=choice(json, "beta_schedule", {theirs: ours for ours, theirs in BETAS.items()}, "linear"),
            start=json.get("beta_start", 0.0001),
            end=json.get("beta_end", 0.02),
            steps=json.get("num_train_timesteps", 1000),
            zero_terminal_snr=json.get("rescale_betas_zero_snr", False),
            prediction=choice(json, "prediction_type", {theirs: ours for ours, theirs in PREDICTIONS.items()}, "epsilon"),
            # Only these two look at the field; the others end at 0.
            final_sigma_zero=last if json.get("_class_name") in ("DDIMScheduler", "PNDMScheduler") else True,
            steps_offset=json.get("steps_offset", 0),
        )
    )


def sampler_and_spacing(json: Json) -> tuple[str, str]:
    """Which of sumi's samplers and spacings a scheduler's file asks for."""
    name = str(json.get("_class_name"))
    spacing = json.get("timestep_spacing", "leading" if name in LEADING else "linspace")
    return SAMPLERS.get(name, "ddim"), "karras" if json.get("use_karras_sigmas") else spacing
