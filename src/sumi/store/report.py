"""What a file or folder is, for people and programs to read: nothing is loaded, headers and descriptions are enough."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from sumi.config import ModelSpec, Prediction
from sumi.errors import CheckpointError
from sumi.store import detect, dialects, pickles, single
from sumi.store.find import find
from sumi.store.folder import read_model
from sumi.store.layout import pipeline
from sumi.store.pickles import Form

SAYS = re.compile(r"(ss_|modelspec\.|sd_|step$|epoch$|global_step$|name$|format$|license$|hash)")
"""Metadata worth telling: of training scripts and of model specifications."""
LONGEST = 300
BASES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL", 1280: "Stable Diffusion XL's refiner"}
"""By the width of the context that cross-attention reads."""

Report = dict[str, Any]


def inspect(name: str | Path, *, prediction: Prediction | None = None, revision: str | None = None) -> Report:
    """What a name stands for: a model with its variant, parts and prediction, or a LoRA, an embedding, a ControlNet, a part.

    Keys that are always there: path, kind, layout, format, bytes, tensors, precision, metadata. A model has variant, prediction,
    known_by, ema, parts, spec, too. CheckpointError as `find` and `load`.
    """
    path = find(name, revision=revision)
    return _folder(path) if path.is_dir() else _file(path, prediction)


def _folder(path: Path) -> Report:
    model = read_model(path)
    forms = {
        f"{part}.{key}": (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for part, state in model.states.items()
        for key, tensor in state.items()
    }
    parts = {part: _totals({key: form for key, form in forms.items() if key.startswith(f"{part}.")}) for part in model.states}
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    report = {
        "path": str(path),
        "kind": "model",
        "layout": "folder",
        "format": "safetensors",
        "bytes": size,
        **_totals(forms),
        "metadata": {},
    }
    return report | _model(model.spec, model.known_by, bool(model.trained), parts)


def _file(path: Path, prediction: Prediction | None) -> Report:
    forms, says = single.describe(path)
    shapes = {name: shape for name, (_, shape) in forms.items()}
    kind = detect.kind(shapes)
    report: Report = {
        "path": str(path),
        "kind": kind,
        "layout": "single file",
        "format": "pickle" if pickles.is_pickle(path) else "safetensors",
        "bytes": path.stat().st_size,
        **_totals(forms),
        "metadata": _metadata(says),
    }
    match kind:
        case "model":
            found, open_question = _identified(shapes, says, path, prediction)
            parts = {
                part.name: _totals({key: form for key, form in forms.items() if key.startswith(part.prefix)})
                for part in dialects.parts(found.spec)
            }
            return report | _model(found.spec, found.known_by, found.ema, parts) | ({"prediction": None} if open_question else {})
        case "lora":
            return report | _lora(shapes)
        case "embedding":
            return report | {
                "vectors": {name: shape[0] if len(shape) > 1 else 1 for name, shape in shapes.items()},
                "base": _base(shape[-1] for shape in shapes.values()),
            }
        case "controlnet":
            return report | {"base": _base(shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight"))}
        case "autoencoder":
            whole = {name.removeprefix("first_stage_model."): shape for name, shape in shapes.items()}
            return report | {"autoencoders": [asdict(config) for config in detect.autoencoder_form(whole)]}
    return report


def _identified(shapes: detect.Shapes, says: detect.Says, path: Path, prediction: Prediction | None) -> tuple[detect.Found, bool]:
    """What a model is; the second is whether nothing says what its network predicts, which to look at it need not be known."""
    try:
        return detect.identify(shapes, says, str(path), prediction=prediction), False
    except CheckpointError as error:
        if "--prediction" not in str(error):
            raise
        found = detect.identify(shapes, says, str(path), prediction="eps")
        return detect.Found(found.spec, "nothing in the file says it: give --prediction when it is used", found.ema), True


def _model(spec: ModelSpec, known_by: str, ema: bool, parts: Mapping[str, Report]) -> Report:
    return {
        "variant": spec.name,
        "pipeline": pipeline(spec),
        "prediction": spec.schedule.prediction,
        "known_by": known_by,
        "ema": ema,
        "parts": dict(parts),
        "spec": json.loads(json.dumps(asdict(spec))),
    }


def _totals(forms: Mapping[str, Form]) -> Report:
    """Tensors, numbers, and how many of these there are of each precision."""
    counts: Counter[str] = Counter()
    for kind, shape in forms.values():
        counts[kind] += prod(shape)
    return {"tensors": len(forms), "parameters": counts.total(), "precision": dict(counts.most_common())}


def _lora(shapes: detect.Shapes) -> Report:
    """Ranks, what is changed, and of which model."""
    downs = {name: shape for name, shape in shapes.items() if re.search(r"lora[_.](down|A)\.|lora_linear_layer\.down", name)}
    texts = sum("lora_te" in name or name.startswith("text_encoder") for name in downs)
    contexts = [shape[1] for name, shape in downs.items() if re.search(r"attn2[._](processor\.)?to_[kv]", name)]
    return {
        "ranks": sorted({shape[0] for shape in downs.values()}),
        "layers": {"unet": len(downs) - texts, "text": texts},
        "base": _base(contexts),
    }


def _base(widths: Any) -> str | None:
    known = {BASES[width] for width in widths if width in BASES}
    return " or ".join(sorted(known)) or None


def _metadata(says: Mapping[str, object]) -> dict[str, object]:
    told = {key: value for key, value in says.items() if SAYS.match(key)}
    return {key: value[:LONGEST] if isinstance(value, str) else value for key, value in sorted(told.items())}
