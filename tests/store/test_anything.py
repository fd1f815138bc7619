"""Whatever a name stands for is opened, or refused in one line; parts are taken from wherever they are."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from small import SMALL, WORDS, small
from sumi.errors import CheckpointError
from sumi.models.zoo import ZOO
from sumi.store import anything, configs, dialects
from sumi.store.anything import open_model, open_part
from sumi.store.folder import write_model
from sumi.store.single import write_single


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ZOO, "small", SMALL)
    monkeypatch.setattr("sumi.store.single.clip_tokenizer", lambda *_, **__: WORDS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a folder and as a file."""
    folder = tmp_path_factory.mktemp("files")
    write_model(folder / "small", small())
    write_single(folder / "single.safetensors", small())
    return folder


def equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", ["small", "single.safetensors"])
def test_a_model_is_opened_by_its_path_and_by_its_name(files: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUMI_MODELS", str(files))
    for called in (files / name, name):
        model = open_model(called)
        assert model.spec == SMALL and all(equal(model.states[part], state) for part, state in small().states.items())


@pytest.fixture
def _impatient() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("_impatient")
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "empty.ckpt").touch()
    for path in (tmp_path / "pipe.safetensors", tmp_path / "empty.ckpt", Path("/dev/zero")):
        with pytest.raises(CheckpointError) as caught:
            open_model(path)
        assert str(caught.value).startswith(str(path)) and str(caught.value).isprintable()


def test_what_may_not_be_read_is_said(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(anything, "read_model", forbidden)
    monkeypatch.setattr(anything, "read_single", forbidden)
    for name in ("small", "single.safetensors"):
        with pytest.raises(CheckpointError, match=r"s.* cannot be read \(Permission denied\): check who may read it$"):
            open_model(files / name)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("kind", ["folder", "file", "bare", "native", "prefixed"])
def test_a_part_is_taken_from_wherever_it_is(files: Path, tmp_path: Path, part: str, kind: str) -> None:
    (place,) = (each for each in dialects.parts(SMALL) if each.name == part)
    native = small().states[part]
    original = {name: tensor.contiguous() for name, tensor in dialects.to_original(place.rules, native).items()}
    path = tmp_path / "part.safetensors"
    match kind:
        case "folder":
            path = files / "small"
        case "file":
            path = files / "single.safetensors"
        case "bare":
            save_file(original, path)
        case "native":
            save_file(native, path)
        case "prefixed":
            save_file({place.prefix + name: tensor for name, tensor in original.items()}, path)
    assert equal(open_part(path, part, SMALL), native)


def test_a_part_in_the_folder_of_the_part(files: Path) -> None:
    assert equal(open_part(files / "small" / "vae", "vae", SMALL), small().states["vae"])


def test_an_autoencoder_of_another_scale_is_refused(tmp_path: Path) -> None:
    """Stable Diffusion XL's fits into 1 in every shape."""
    save_file(small().states["vae"], tmp_path / "vae.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(configs.autoencoder_json(SMALL.autoencoder) | {"scaling_factor": 0.13025}))
    with pytest.raises(CheckpointError, match=r"is for latents times 0\.13025, and small has them times 0\.18215: use another"):
        open_part(tmp_path / "vae.safetensors", "vae", SMALL)


def test_a_part_that_does_not_fit_is_refused(files: Path) -> None:
    spec = ZOO["sd15"]
    for path in (files / "small", files / "single.safetensors"):
        with pytest.raises(CheckpointError, match=r"does not fit sd15: .*use the weights of one model"):
            open_part(path, "vae", spec)
    with pytest.raises(CheckpointError):
        open_part(files / "single.safetensors", "text_encoder", spec)
