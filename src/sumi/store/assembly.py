"""From files to a model that runs."""

import warnings
from importlib.resources import files
from pathlib import Path

from sumi.config import ModelSpec, Prediction
from sumi.diffusion.schedule import Schedule
from sumi.errors import ModelWarning
from sumi.models.channels import Segmentation
from sumi.models.embedders import ImageEmbedding, Label, takes_image_embedding
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.placement import choose, place, weightless
from sumi.models.prompt import Prompt
from sumi.nets.unet import UNet
from sumi.store.anything import open_model
from sumi.store.model import Parts, build

SHIPPED = Path(str(files("sumi"))) / "weights" / "sumi-objects"


def load(
    path: str | Path | None = None,
    *,
    device: str | None = None,
    precision: str | None = None,
    ema: bool = True,
    prediction: Prediction | None = None,
    variant: str | None = None,
    revision: str | None = None,
    download: bool = False,
) -> LatentDiffusion:
    """The model that a path, a name in the user's model folders or the id of a repository stands for, ready to run.

    By default the one that comes with sumi. `device` is one of PyTorch's names, `precision` is float32, bfloat16 or float16; None:
    what is fastest for this model on this hardware and leaves its pictures as they are. `ema`: take averaged weights where a file
    has them. `prediction` is eps, v or x0, for files that do not say. `variant` and `revision`: which files of a folder (fp16), which
    state of a repository. `download`: get a vocabulary that is not on this machine.

    CheckpointError or another SumiError, in one line, if the model or the device cannot be used; ModelWarning for what a file
    holds that is no part of the model.
    """
    model = open_model(
        SHIPPED if path is None else path, ema=ema, prediction=prediction, variant=variant, revision=revision, download=download
    )
    for note in model.notes:
        warnings.warn(note, ModelWarning, stacklevel=2)
    with weightless():
        parameters = sum(weight.numel() for weight in UNet(model.spec.unet).parameters())
    where, dtype = choose(parameters, device, precision)
    parts = build(model, dtype)
    place(parts.networks, where, dtype)
    return assemble(model.spec, parts, source=None if path is None else str(path).encode(errors="backslashreplace").decode())


def assemble(spec: ModelSpec, parts: Parts, *, source: str | None = None) -> LatentDiffusion:
    """The model that a spec describes, of parts that are in their place. `source` is what it was loaded by, if a name or path."""
    return LatentDiffusion(
        spec,
        parts.unet,
        parts.autoencoder,
        _prompt(spec, parts),
        Schedule(spec.schedule),
        label=None if parts.label is None else Label(parts.label),
        segmentation=None if parts.map is None else Segmentation(parts.map),
        image_embedding=None if parts.embeddings is None else ImageEmbedding(*parts.embeddings),
        vision=parts.vision,
        source=source,
    )


def _prompt(spec: ModelSpec, parts: Parts) -> Prompt | None:
    """The reader of words; None without a tokenizer: boxes, too, are read by a text encoder."""
    context, vector = spec.unet.context_width is not None, spec.unet.vector_width is not None and not takes_image_embedding(spec)
    readers = list(zip(parts.tokenizers, parts.text_encoders, strict=False))
    if len(readers) < 2:
        return Prompt(*readers[0], context=context, vector=vector, zero_null=spec.zero_null) if readers else None
    second = Prompt(*readers[1], context=context, vector=vector)
    return Prompt(*readers[0], context=context, second=second, zero_null=spec.zero_null)
