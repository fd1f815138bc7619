"""The body of a request in A1111's words, and which of it is followed: a field counts as followed once it is read.

As A1111 itself, it takes null for a field's default, and a number that is written as text for the number.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from sumi.errors import RequestError

LARGEST = 2**64 - 1
"""A seed. With larger numbers nothing can be reckoned, or even said: they are no floats, and may have thousands of digits."""


class _Anything:
    """What every value is equal to."""

    def __contains__(self, value: object) -> bool:
        return True


ANY: Final = _Anything()
NOTHING_ASKED: Mapping[str, _Anything | tuple[Any, ...]] = {
    "denoising_strength": ANY,  # of plain txt2img
    "do_not_save_grid": ANY,  # there is none
    "do_not_save_samples": ANY,  # save_images says it
    "force_task_id": ("",),
    "infotext": ("",),
    "styles": ([],),
    "comments": ({},),
    "restore_faces": (False,),
    "disable_extra_networks": (False,),
    "subseed": ANY,  # without its strength
    "seed_resize_from_h": (0, -1),
    "seed_resize_from_w": (0, -1),
    "eta": (0, 1),
    "s_churn": (0,),
    "s_tmin": (0,),
    "s_tmax": (0,),
    "s_noise": (1,),
    "s_min_uncond": (0,),
    "sampler_index": ANY,  # where there is a sampler_name
    "scheduler": ("", "automatic", "Automatic"),
    "override_settings_restore_afterwards": (True,),
    "script_args": ([],),
    "use_deprecated_controlnet": (False,),
    "firstphase_width": (0,),
    "firstphase_height": (0,),
    "refiner_checkpoint": ("", "None"),
    "refiner_switch_at": ANY,
    "enable_hr": (False,),  # of img2img
    "hr_scale": ANY,
    "hr_upscaler": ANY,
    "hr_second_pass_steps": ANY,
    "hr_resize_x": ANY,
    "hr_resize_y": ANY,
    "hr_checkpoint_name": ("", "None", "Use same checkpoint"),
    "hr_sampler_name": ("", "None", "Use same sampler"),
    "hr_scheduler": ("", "None", "Use same scheduler"),
    "hr_prompt": ("",),
    "hr_negative_prompt": ("",),
    "hr_additional_modules": ([], ["Use same choices"]),
    "image_cfg_scale": ANY,  # of models that are not told of a picture
    "initial_noise_multiplier": (1,),
    "resize_mode": ANY,  # of a picture of the size that is drawn
    "mask": ("",),
    "mask_blur": ANY,  # these without a mask
    "inpainting_fill": ANY,
    "inpainting_mask_invert": ANY,
    "inpaint_full_res": ANY,
    "inpaint_full_res_padding": ANY,
}
"""Values of fields that ask for nothing, so that it does not matter that nobody reads them."""


class Given:
    """A body, read field by field. RequestError for a value of another type."""

    def __init__(self, fields: Mapping[str, Any], prefix: str = "") -> None:
        self.fields, self._prefix = fields, prefix
        self._read, self._ignored = set[str](), set[str]()

    def text(self, name: str, default: str = "") -> str:
        """A text."""
        value = self._value(name)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, "text")
        return default if value is None else value

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        value = self._value(name)
        if value is None:
            return default
        try:
            found = float(value) if isinstance(value, str | int | float) else math.nan
        except (ValueError, OverflowError):
            found = math.nan
        if not math.isfinite(found):
            raise self._wrong(name, "a number")
        return found

    def whole(self, name: str, default: int) -> int:
        """A whole number."""
        value = self._value(name)
        written = isinstance(value, str) and value.strip().removeprefix("-").isdecimal() and len(value) < 40
        if isinstance(value, int) or written:  # which may have more digits than a float holds
            found = int(value)
        else:
            number = self.number(name, default)
            if number != int(number):
                raise self._wrong(name, "a whole number")
            found = default if value is None else int(number)
        if abs(found) > LARGEST:
            raise self._wrong(name, f"from {-LARGEST} to {LARGEST}")
        return found

    def flag(self, name: str, default: bool) -> bool:
        """True or false, which may be 1 or 0."""
        value = self._value(name)
        if value is not None and value not in (True, False):
            raise self._wrong(name, "true or false")
        return default if value is None else bool(value)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An object; none at all is an empty one."""
        value = self._value(name)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return value or {}

    def sequence(self, name: str) -> list[Any]:
        """A list; none at all is an empty one."""
        value = self._value(name)
        if value is not None and not isinstance(value, list):
            raise self._wrong(name, "a list")
        return value or []

    def ignore(self, name: str) -> None:
        """A field that was read is not followed after all."""
        self._ignored.add(name)

    def ignored(self) -> list[str]:
        """The fields that ask for something and are not followed."""
        return [self._prefix + name for name, value in self.fields.items() if self._asks(name, value)]

    def _asks(self, name: str, value: Any) -> bool:
        if name in self._ignored:
            return True
        return name not in self._read and value is not None and value not in NOTHING_ASKED.get(name, ())

    def _value(self, name: str) -> Any:
        self._read.add(name)
        return self.fields.get(name)

    def _wrong(self, name: str, kind: str) -> RequestError:
        return RequestError(f"{self._prefix}{name} must be {kind}")
