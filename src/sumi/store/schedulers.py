"""The forward process and the sampler as diffusers' scheduler_config.json: JSON <-> `ScheduleConfig`, sampler, options and spacing.

Which class is which sampler is in `sumi.diffusion.names`.
"""

from collections.abc import Iterator, Mapping

from sumi.config import ScheduleConfig
from sumi.diffusion.names import DIFFUSERS, DiffusersRow, Named
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.errors import CheckpointError
from sumi.store.configs import Fixed, Json, check, choice, written
from sumi.store.sound import sound

SCHEDULE: Fixed = {"trained_betas": (None,), "thresholding": (False,)}
OTHER: Fixed = {"sigma_data": (None,), "timestep_type": ("discrete",)}
"""Fields of schedulers that are told the noise in another way."""

BETAS = {"scaled_linear": "scaled_linear", "linear": "linear", "cosine": "squaredcos_cap_v2"}
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
FLAGS = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas", "beta": "use_beta_sigmas"}
"""Spacings that a flag asks for, whatever timestep_spacing says."""
FLAGGED = {flag: ours for ours, flag in FLAGS.items()} | {"use_lu_lambdas": "exponential"}
"""The same for reading; evenly spaced lambdas, too, are evenly spaced logarithms of sigma."""
TIMES = ("leading", "trailing", "linspace")
NEAREST = {"ddim_uniform": "leading", "lcm": "leading", "simple": "trailing", "sgm_uniform": "trailing"}
"""Their word for what they have no word for: the same levels or nearly. For all others it is "linspace", the whole range of training."""
LEADING = ("DDIMScheduler", "PNDMScheduler", "DDPMScheduler")
"""Those that are spaced so where the file does not say."""
DISTILLED = ("LCMScheduler", "TCDScheduler")
"""Those that know one spacing, whatever the file says."""
UNFLAGGED = (*LEADING, *DISTILLED, "EulerAncestralDiscreteScheduler")
"""Those that cannot be asked for a spacing by a flag."""
UNWRITTEN = ("IPNDMScheduler",)
"""Those that tell the network another time than it knows, so that no file of them fits."""
ENDS = ("DDIMScheduler", "PNDMScheduler")
"""Those that end where `set_alpha_to_one` says. (For the distilled ones, which look at it too, the last step leads to 0 anyway.)"""


def scheduler_class(sampler: str) -> str:
    """diffusers' name of a sampler; its DDIM for those that it does not have."""
    return _row(sampler, {}).kind


def schedule_json(config: ScheduleConfig, spacing: str, sampler: str = "ddim", options: Mapping[str, float] | None = None) -> Json:
    """diffusers' scheduler of a sampler, with as much of spacing and options as it has fields for."""
    options = {**SAMPLERS[sampler].options, **(options or {})}
    row = _row(sampler, options)
    ends = {"set_alpha_to_one": config.final_sigma_zero} if row.kind in ENDS else {}
    flags = {FLAGS[spacing]: True} if spacing in FLAGS and row.kind not in UNFLAGGED else {}
    return {
        "_class_name": row.kind,
        **written(SCHEDULE),
        "beta_schedule": BETAS[config.kind],
        "beta_start": config.start,
        "beta_end": config.end,
        "num_train_timesteps": config.steps,
        "rescale_betas_zero_snr": config.zero_terminal_snr,
        "prediction_type": PREDICTIONS[config.prediction],
        "steps_offset": config.steps_offset,
        "timestep_spacing": spacing if spacing in TIMES else NEAREST.get(spacing, "linspace"),
        "clip_sample": False,
        **row.fields,
        **{name: options.get(ours, default) for name, (ours, default) in row.numbers.items()},
        **ends,
        **flags,
    }


def schedule_config(json: Json) -> ScheduleConfig:
    """The reverse of `schedule_json`, of any common scheduler. `clip_sample` is passed over: latents are never clipped."""
    check(json, {**SCHEDULE, **OTHER})
    kind = json.get("_class_name")
    return sound(
        ScheduleConfig(
            kind=choice(json, "beta_schedule", {theirs: ours for ours, theirs in BETAS.items()}, "linear"),
            start=json.get("beta_start", 0.0001),
            end=json.get("beta_end", 0.02),
            steps=json.get("num_train_timesteps", 1000),
            zero_terminal_snr=json.get("rescale_betas_zero_snr", False),
            prediction=choice(json, "prediction_type", {theirs: ours for ours, theirs in PREDICTIONS.items()}, "epsilon"),
            # The others end at 0, or at final_sigmas_type "sigma_min", which is sigma(t=0).
            final_sigma_zero=json.get("set_alpha_to_one", kind != "PNDMScheduler")
            if kind in ENDS
            else json.get("final_sigmas_type") != "sigma_min",
            steps_offset=json.get("steps_offset", 0),
        )
    )


def named(json: Json) -> Named:
    """Which of sumi's samplers a scheduler's file asks for, with its options and spacing; DDIM for a class that is not known.

    What is not the same as there, `lacking` says. CheckpointError if an option is not a whole number.
    """
    kind, row = json.get("_class_name"), _asked_row(json) or DiffusersRow("", "ddim")
    options = dict(row.options)
    for name, (ours, default) in row.numbers.items():
        value = json.get(name, default)
        if type(value) is not int:
            raise CheckpointError(f"{name} is {value!r:.40}, not a whole number: take the scheduler of another model")
        options[ours] = value
    if kind in DISTILLED:
        return Named(row.sampler, "lcm", options)
    spacing = json.get("timestep_spacing", "leading" if kind in LEADING else "linspace")
    if spacing not in TIMES:
        raise CheckpointError(f"timestep_spacing is {spacing!r:.40}, none of {', '.join(TIMES)}: take the scheduler of another model")
    return Named(row.sampler, next((ours for flag, ours in FLAGGED.items() if json.get(flag)), spacing), options)


def lacking(json: Json) -> Iterator[str]:
    """What a scheduler's file asks for that is not here, and what it is read as."""
    found, row = named(json), _asked_row(json)
    if row is None:
        yield f"the scheduler {json.get('_class_name')!r:.60}, which is not known here: its sampler is {found.sampler}"
    elif row.lacking:
        yield f"{row.lacking} of {row.kind}, which is not here: its sampler is {found.sampler}, the nearest"
    if json.get("use_flow_sigmas"):
        yield f"the noise levels of flow matching (use_flow_sigmas), which are not here: its spacing is {found.spacing}"


def asked(json: Json) -> tuple[str, str, tuple[tuple[str, float], ...]]:
    """The same, as a `ModelSpec` has it: sampler, spacing, and the options that are not the sampler's own."""
    found = named(json)
    assert found.spacing is not None
    defaults = SAMPLERS[found.sampler].options
    return found.sampler, found.spacing, tuple((name, float(value)) for name, value in found.options.items() if value != defaults[name])


def _asked_row(json: Json) -> DiffusersRow | None:
    return next((row for row in DIFFUSERS if row.kind == json.get("_class_name") and row.fields.items() <= json.items()), None)


def _row(sampler: str, options: Mapping[str, float]) -> DiffusersRow:
    """The row of the sampler with the options, else its first, else that of DDIM."""
    rows = [row for row in DIFFUSERS if row.sampler == sampler and row.kind not in UNWRITTEN] or list(DIFFUSERS)
    rows, options = sorted(rows, key=lambda row: bool(row.lacking)), {**SAMPLERS[sampler].options, **options}
    return next((row for row in rows if row.options.items() <= options.items()), rows[0])
