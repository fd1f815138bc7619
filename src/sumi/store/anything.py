"""Any model that there is, by whatever it is called and in whatever layout it lies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from sumi.config import AutoencoderConfig, ModelSpec, Prediction
from sumi.errors import CheckpointError
from sumi.store import checkpoint, configs
from sumi.store.dialects import native_name
from sumi.store.find import find
from sumi.store.folder import read_model
from sumi.store.model import Model, check, expected
from sumi.store.single import read_part, read_single
from sumi.store.tables import read_json, understood


def open_model(
    name: str | Path,
    *,
    ema: bool = True,
    prediction: Prediction | None = None,
    variant: str | None = None,
    revision: str | None = None,
    download: bool = False,
) -> Model:
    """The model that a name stands for (`find`), folder or file; nothing of it is in memory yet.

    ema, prediction, download: as `read_single`, for files. variant: as `read_model`, for folders. revision: of a repository.
    CheckpointError, in one line, for whatever cannot be opened, and why.
    """
    path = find(name, revision=revision, variant=variant)
    with readable(path):
        if path.is_dir():
            return read_model(path, variant=variant)
        return read_single(path, ema=ema, prediction=prediction, download=download)


def open_part(name: str | Path, part: str, spec: ModelSpec) -> dict[str, Tensor]:
    """One part, of the kind that a spec has, out of a folder or file of a model, or a file of the part alone; by native names.

    A file of one part may call its tensors as the original projects do, with or without prefix, or as Hugging Face's folders.
    CheckpointError as `open_model`, and if it does not fit the spec.
    """
    path = find(name)
    described: AutoencoderConfig | None
    with readable(path):
        if path.is_dir():
            model = read_model(path)
            state, described = model.states.get(part, {}), model.spec.autoencoder
        else:
            state, described = _alone(path, part, spec), _described(path)
    # Autoencoders of one shape differ in this alone, and the pictures of a wrong one are noise.
    scale = spec.autoencoder.latent_scale
    if part == "vae" and described is not None and described.latent_scale != scale:
        raise CheckpointError(
            f"{path} is for latents times {described.latent_scale:g}, and {spec.name} has them times {scale:g}: use another"
        )
    check(Model(spec, {part: state}, where=str(path)), only=part)
    return state


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """CheckpointError where the system does not let the files at a path be read."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}): check who may read it") from error


def _alone(path: Path, part: str, spec: ModelSpec) -> dict[str, Tensor]:
    tensors = {native_name(each): tensor for each, tensor in checkpoint.load(path).items()}
    names = expected(spec)[part].state_dict().keys()
    return {each: tensors[each] for each in names} if names <= tensors.keys() else read_part(path, part, spec)


def _described(path: Path) -> AutoencoderConfig | None:
    """What the description beside a file says of the autoencoder in it, if there is one."""
    description = path.with_name("config.json")
    if not description.is_file() or "latent_channels" not in (table := read_json(description)):
        return None
    return understood(description, lambda: configs.autoencoder_config(table))
