"""A1111's options: the settings that outlast a request, here until the server ends, and that a request may override."""

import threading
from collections.abc import Mapping
from typing import Any

from sumi.errors import RequestError
from sumi.request import did_you_mean
from sumi.serve.a1111_given import Given
from sumi.serve.studio import Studio
from sumi.store.record import EMPHASIS

NOISE = {"GPU": "a1111-nv", "CPU": "a1111-cpu", "NV": "a1111-nv"}
"""Whose noise a seed stands for, by A1111's randn_source. Its GPU is Nvidia's, whose noise NV is."""
FIXED: Mapping[str, Any] = {"sd_vae": "Automatic", "samples_format": "png", "eta_noise_seed_delta": 0, "return_grid": False}
"""Options that clients look at, and that are as they are."""


class Options:
    """The options of a server, by A1111's names."""

    def __init__(self, studio: Studio) -> None:
        self._studio, self._lock = studio, threading.Lock()
        self._values: dict[str, Any] = {
            "sd_model_checkpoint": studio.catalogue.first,
            "CLIP_stop_at_last_layers": 1,
            "randn_source": "GPU",
            "emphasis": "Original",
            "initial_noise_multiplier": 1.0,
            "img2img_fix_steps": False,
        }

    @property
    def all(self) -> dict[str, Any]:
        """Every option with its value."""
        return {**self._values, **FIXED}

    def set(self, changes: Mapping[str, Any]) -> list[str]:
        """Takes over what is among the options, all or nothing; the names of the others. RequestError for a value that is none."""
        with self._lock:
            self._values, ignored = self.overridden(changes)
        return ignored

    def overridden(self, changes: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], list[str]]:
        """The options with some changed, and the names of what is not among them, or cannot be changed. RequestError as `set`."""
        asked = {name: value for name, value in changes.items() if name not in FIXED or value != FIXED[name]}
        given, values = Given(asked, prefix), dict(self._values)
        if title := given.text("sd_model_checkpoint"):
            values["sd_model_checkpoint"] = self.model(title)
        for name, known in (("randn_source", NOISE), ("emphasis", EMPHASIS.values())):
            values[name] = given.text(name, values[name])
            if values[name] not in known:
                raise RequestError(f"{prefix}{name} must be {', '.join(known)}")
        for name, low, high in (("CLIP_stop_at_last_layers", 1, 64), ("initial_noise_multiplier", 0, 2)):
            values[name] = (given.whole if isinstance(values[name], int) else given.number)(name, values[name])
            if not low <= values[name] <= high:
                raise RequestError(f"{prefix}{name} must be from {low} to {high}")
        values["img2img_fix_steps"] = given.flag("img2img_fix_steps", values["img2img_fix_steps"])
        return values, given.ignored()

    def model(self, title: str) -> str:
        """The name of the model that is meant, with or without what A1111's titles add. RequestError if there is none."""
        names = self._studio.catalogue.names
        bare = title.partition(" [")[0]
        for said in (title, bare, bare.rpartition(".")[0]):
            for name in names:
                if said.casefold() == name.casefold():
                    return name
        raise RequestError(f"there is no checkpoint {title[:80]!a}{did_you_mean(title[:80], names)}: use {', '.join(names)}")
