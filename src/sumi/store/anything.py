"""Any model that there is, by whatever it is called and in whatever layout it lies."""

from pathlib import Path

from torch import Tensor

from sumi.config import ModelSpec, Prediction
from sumi.errors import CheckpointError
from sumi.store import detect, single
from sumi.store.find import find
from sumi.store.folder import read_model, read_spec
from sumi.store.model import Model, check
from sumi.store.single import read_part, read_single


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
    try:
        if path.is_dir():
            return read_model(path, variant=variant)
        return read_single(path, ema=ema, prediction=prediction, download=download)
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): check who may read it") from error


def spec_of(name: str | Path, *, prediction: Prediction | None = None, revision: str | None = None) -> ModelSpec:
    """What the model that a name stands for is, by descriptions and headers alone; errors as `open_model`."""
    path = find(name, revision=revision)
    if path.is_dir():
        return read_spec(path)
    forms, says = single.describe(path)
    return detect.identify({name: shape for name, (_, shape) in forms.items()}, says, str(path), prediction=prediction).spec


def open_part(name: str | Path, part: str, spec: ModelSpec) -> dict[str, Tensor]:
    """One part, of the kind that a spec has, out of a folder or file of a model, or a file of the part alone; by native names.

    CheckpointError as `open_model`, and if it does not fit the spec.
    """
    path = find(name)
    state = read_model(path).states.get(part, {}) if path.is_dir() else read_part(path, part, spec)
    check(Model(spec, {part: state}, where=str(path)), only=part)
    return state
