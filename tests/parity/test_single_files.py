"""Single files, there and back, for every variant: what is read is what is written, to the last bit, and diffusers reads the same.

The networks are tiny and random, of the forms of the zoo; what a file is, is found of real sizes, of which nothing but names and
shapes exist.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sumi.config import BertConfig, LabelConfig, MapConfig, ModelSpec, ScheduleConfig, TextConfig
from sumi.errors import CheckpointError, OutputError
from sumi.models.embedders import sizes, takes_image_embedding
from sumi.models.zoo import SD2, SD2_UNCLIP_H, SD2_V, SD15, SDXL, ZOO
from sumi.store import detect, dialects, single
from sumi.store import model as model_module
from sumi.store.folder import read_model, write_model
from sumi.store.model import STATISTICS, Model, expected
from sumi.store.single import read_single, write_single
from sumi.text.bpe import Tokenizer, word_vocabulary
from sumi.text.wordpiece import WordPiece

VOCAB, MERGES = word_vocabulary(["a", "cat"])
SPECIAL = {name: number for number, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat"])}
LENGTH, WIDTH = 8, 8
EOS = VOCAB["<|endoftext|>"]


@pytest.fixture(autouse=True)
def vocabularies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few words: no file of a model has its own."""
    monkeypatch.setattr(single, "clip_tokenizer", lambda _, *, pad_id, length, download: Tokenizer(VOCAB, MERGES, length, pad_id))
    monkeypatch.setattr(single, "bert_tokenizer", lambda _, *, length, download: WordPiece(SPECIAL, length=length))
    monkeypatch.setattr(model_module, "expected", networks)


def networks(spec: ModelSpec) -> dict[str, nn.Module]:
    """As `expected`, whose networks nothing here fills; built once for all files of a form."""
    parts = {part: getattr(spec, part) for part in ("unet", "text", "text_2", "label", "map", "vision")}
    scale = 1.0 if spec.autoencoder.identity else 0.5
    return built(ModelSpec("any", **parts, autoencoder=replace(spec.autoencoder, latent_scale=scale)))


built = cache(expected)


# Tiny models


def small(spec: ModelSpec) -> ModelSpec:
    """A model of the same form, of next to nothing."""
    unet, levels = spec.unet, len(spec.unet.block_channels)
    text, text_2 = (shrunk(each, width) for each, width in ((spec.text, WIDTH), (spec.text_2, 2 * WIDTH)))
    context = None if unet.context_width is None else WIDTH + (2 * WIDTH if text_2 else 0)
    vector = unet.vector_width
    if vector is not None:
        numbers = sizes(spec)
        vector = 2 * WIDTH if numbers is None else (text_2 or text).width + numbers.numbers * numbers.WIDTH  # type: ignore[union-attr]
        vector = 6 * WIDTH if takes_image_embedding(spec) else vector
    network = replace(
        unet,
        block_channels=tuple(8 * (2 if level else 1) for level in range(levels)),
        layers_per_block=1,
        attention_depth=tuple(min(depth, 2) for depth in unet.attention_depth),
        middle_depth=min(unet.middle_depth, 2),
        heads=None if unet.heads is None else min(2, unet.heads),  # type: ignore[type-var]
        head_width=None if unet.head_width is None else 4,
        context_width=context,
        vector_width=vector,
        label_classes=unet.label_classes and 5,
        norm_groups=4,
    )
    autoencoder = spec.autoencoder
    if not autoencoder.identity:
        widths = tuple(4 * (2 if level else 1) for level in range(len(autoencoder.block_channels)))
        books = autoencoder.codebook_size and 7
        autoencoder = replace(autoencoder, block_channels=widths, layers_per_block=1, norm_groups=4, codebook_size=books)
    label, classes = spec.label and LabelConfig(5, WIDTH), spec.map and MapConfig(5, spec.map.channels)
    eyes: dict[str, Any] = {"image_size": 8, "patch_size": 4, "width": WIDTH, "layers": 2, "heads": 2, "mlp_width": 2 * WIDTH}
    vision = spec.vision and replace(spec.vision, **eyes, projection_width=3 * WIDTH)
    return replace(spec, unet=network, autoencoder=autoencoder, text=text, text_2=text_2, label=label, map=classes, vision=vision)


def shrunk(text: TextConfig | BertConfig | None, width: int) -> Any:
    match text:
        case TextConfig():
            fields = {"vocab_size": len(VOCAB), "eos_id": EOS, "pad_id": text.pad_id and EOS, "length": LENGTH, "heads": 2}
            projection = text.projection_width and width
            return replace(text, **fields, width=width, layers=2, mlp_width=2 * width, projection_width=projection)
        case BertConfig():
            return replace(text, width=width, layers=2, heads=2, head_width=4)
    return None


@cache
def model(name: str) -> Model:
    """Of numbers of every precision that files have."""
    spec = small(ZOO[name])
    kinds = {"unet": torch.float16, "text_encoder": torch.bfloat16, "text_encoder_2": torch.float16, "image_encoder": torch.float16}
    draw = torch.Generator().manual_seed(0)
    states = {
        part: {
            each: torch.randn(tensor.shape, generator=draw).to(kinds.get(part, torch.float32))
            for each, tensor in network.state_dict().items()
        }
        for part, network in networks(spec).items()
    }
    if takes_image_embedding(spec):
        states[STATISTICS] = {"mean": torch.randn(1, 3 * WIDTH), "std": torch.rand(1, 3 * WIDTH)}
    return Model(spec, states)


def assert_equal(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Names, precisions and numbers."""
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if isinstance(value, Tensor):
            assert (ours[name].dtype, ours[name].shape) == (value.dtype, value.shape)
            assert torch.equal(ours[name], value), name
        else:
            assert_equal(ours[name], value)


def tensors_of(name: str, path: Path) -> dict[str, Tensor]:
    """The tensors of a model, by original names."""
    write_single(path, model(name))
    return load_file(path)


def published(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What files of this variant have beside the weights."""
    spec = model(name).spec
    schedule = ["betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"]
    schedule += ["log_one_minus_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "logvar"]
    large = name.startswith("sdxl")
    extra = {"denoiser.sigmas": torch.rand(1000)} if large else {each: torch.rand(1000) for each in schedule}
    if not large:
        extra["scale_factor"] = torch.tensor(0.75, dtype=torch.float32)
        average = {each: tensor for each, tensor in tensors.items() if each.startswith("model.")}
        extra |= {"model_ema." + each[6:].replace(".", ""): tensor.float() + 1 for each, tensor in average.items()}
        extra |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7, dtype=torch.int32)}
    if isinstance(spec.text, TextConfig) and not name.startswith(("sd2", "sd-turbo", "x4")):
        owner = "conditioner.embedders.0" if large else "cond_stage_model"
        if name != "sdxl-refiner":
            extra[f"{owner}.transformer.text_model.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    if name.startswith(("sd2", "sd-turbo", "x4")):
        read = "cond_stage_model.model.transformer.resblocks."
        last = [each for each in tensors if each.startswith(f"{read}1.")]
        extra |= {each.replace("resblocks.1.", "resblocks.23."): tensors[each] + 1 for each in last}
        extra |= {
            "cond_stage_model.model.text_projection": torch.rand(WIDTH, WIDTH),
            "cond_stage_model.model.logit_scale": torch.tensor(4.6),
        }
    if name.startswith("ldm"):
        extra["first_stage_model.loss.discriminator.main.0.weight"] = torch.rand(4)
    if "unclip" in name:  # what is left of the text encoder beside CLIP's image encoder
        extra |= {"embedder.model.ln_final.weight": torch.rand(3 * WIDTH), "embedder.model.logit_scale": torch.tensor(4.6)}
    if name == "sd2-depth":
        extra["depth_model.model.pretrained.model.cls_token"] = torch.rand(4)
    return extra


@pytest.mark.parametrize("name", [name for name in ZOO if "turbo" not in name])  # which are of another's form
def test_there_and_back(name: str, tmp_path: Path) -> None:
    """A file to a folder to a file: bit for bit the same, of the averaged weights and of those beside them."""
    first, second, third = (tmp_path / f"{number}.safetensors" for number in range(3))
    bare = tensors_of(name, first)
    spec = model(name).spec
    found = read_single(first, specs=[spec])
    assert found.spec == spec and not found.leftover and not found.trained and not found.notes
    assert_equal(found.states, model(name).states)

    extra = published(name, bare)
    save_file(bare | extra, second, {"modelspec.prediction_type": single.PUBLISHED[spec.schedule.prediction]})
    whole = read_single(second, specs=[spec])
    assert not whole.notes
    if "scale_factor" in extra and not spec.autoencoder.identity:
        assert whole.spec == replace(spec, autoencoder=replace(spec.autoencoder, latent_scale=0.75))
        assert_equal(whole.trained, model(name).states["unet"])
        assert_equal(whole.states["unet"], {each: tensor.float() + 1 for each, tensor in whole.trained.items()})
    write_model(tmp_path / "folder", whole)
    opened = read_model(tmp_path / "folder")
    assert opened.spec == whole.spec
    for field in ("states", "trained", "leftover"):
        assert_equal(getattr(opened, field), getattr(whole, field))
    assert [type(words) for words in opened.tokenizers] == [type(words) for words in whole.tokenizers]
    write_single(third, opened)
    assert_equal(load_file(third), bare | extra)


# The forms that files come in


@pytest.fixture(scope="module")
def sd2(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """A whole file of Stable Diffusion 2, with everything that its files have."""
    tensors = tensors_of("sd2", tmp_path_factory.mktemp("sd2") / "sd2.safetensors")
    return tensors | published("sd2", tensors)


SPECS = [small(SD2), small(SD2_V)]


def lightning(tensors: dict[str, Tensor], **beside: Any) -> dict[str, Any]:
    """A checkpoint of training."""
    return {"state_dict": tensors, "epoch": 3, "optimizer_states": [{"lr": 1e-4}], "callbacks": {}, **beside}


def test_a_training_checkpoint_is_the_same_model(sd2: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(lightning(sd2, global_step=875_000), tmp_path / "base.ckpt")
    torch.save({"state_dict": lightning(sd2, global_step=7)}, tmp_path / "nested.ckpt")
    torch.save(sd2, tmp_path / "flat.pt")
    save_file(sd2, tmp_path / "plain.safetensors", {"modelspec.prediction_type": "epsilon"})
    expected = read_single(tmp_path / "plain.safetensors", specs=SPECS)
    for name, prediction in (("base.ckpt", None), ("nested.ckpt", "eps"), ("flat.pt", "eps")):
        found = read_single(tmp_path / name, specs=SPECS, prediction=prediction)  # type: ignore[arg-type]
        assert found.spec == expected.spec and not found.notes
        assert_equal(found.states, expected.states)
        assert_equal(found.trained, expected.trained)
        # The numbers beside the weights are no tensors; the rest is what the plain file has.
        assert_equal({each: found.leftover[each] for each in expected.leftover}, expected.leftover)


def test_averages_may_be_left_alone(sd2: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(sd2, path := tmp_path / "whole.safetensors")
    averaged, plain = (read_single(path, ema=ema, specs=SPECS, prediction="eps") for ema in (True, False))
    assert_equal(plain.states["unet"], averaged.trained)
    assert not plain.trained
    write_model(tmp_path / "folder", plain)
    write_single(tmp_path / "again.safetensors", read_model(tmp_path / "folder"))
    assert_equal(load_file(tmp_path / "again.safetensors"), sd2)
    gone = next(name for name in sd2 if name.startswith("model_ema.diffusion"))
    save_file({name: tensor for name, tensor in sd2.items() if name != gone}, path)
    with pytest.raises(CheckpointError, match=f"1 are missing, {gone} first: leave them alone with --no-ema"):
        read_single(path, specs=SPECS, prediction="eps")
    assert_equal(read_single(path, ema=False, specs=SPECS, prediction="eps").states, plain.states)


def test_other_projects_forms(tmp_path: Path) -> None:
    """The autoencoder under a short name, its attention without axes of size 1, the text encoder without its first word."""
    tensors = tensors_of("sd15", tmp_path / "plain.safetensors")

    def renamed(name: str) -> str:
        return name.replace("first_stage_model.", "vae.").replace("transformer.text_model.", "transformer.")

    def flat(name: str, tensor: Tensor) -> Tensor:
        return tensor[:, :, 0, 0] if name.startswith("first_stage_model") and ".attn_1." in name and tensor.ndim == 4 else tensor

    other = {renamed(name): flat(name, tensor).contiguous() for name, tensor in tensors.items()}
    assert sum(a.ndim != b.ndim for a, b in zip(other.values(), tensors.values(), strict=True)) == 8
    save_file(other, tmp_path / "other.safetensors")
    found = read_single(tmp_path / "other.safetensors", specs=[small(SD15)])
    assert_equal(found.states, model("sd15").states)
    assert not found.leftover
    write_single(tmp_path / "again.safetensors", found)
    assert_equal(load_file(tmp_path / "again.safetensors"), tensors)


def test_statistics_of_embeddings(tmp_path: Path) -> None:
    """OpenCLIP's are noised as they are; the others' are in no file of the project's, and a note says so."""
    tensors = tensors_of("sd2-unclip-l", path := tmp_path / "l.safetensors")
    left = {name: tensor for name, tensor in tensors.items() if not name.startswith("noise_augmentor.")}
    assert len(tensors) - len(left) == 2
    save_file(left, path)
    spec = small(ZOO["sd2-unclip-l"])
    (note,) = read_single(path, specs=[spec]).notes
    assert "noise_augmentor.data_mean" in note
    large = replace(spec, unet=replace(spec.unet, vector_width=SD2_UNCLIP_H.unet.vector_width))
    save_file(left | {"model.diffusion_model.label_emb.0.0.weight": torch.zeros(32, 2048)}, path)
    found = read_single(path, specs=[large])
    assert not found.notes
    assert torch.equal(found.states[STATISTICS]["mean"], torch.zeros(1, 1024))
    assert torch.equal(found.states[STATISTICS]["std"], torch.ones(1, 1024))
    write_single(path, found)
    assert load_file(path).keys() == left.keys()


@pytest.mark.parametrize("name", ["sd2-unclip-h", "sd2-unclip-l"])
def test_a_file_without_its_image_encoder(name: str, tmp_path: Path) -> None:
    """As of words alone it is used all the same, and a note says what cannot be done."""
    tensors = tensors_of(name, path := tmp_path / "model.safetensors")
    left = {each: tensor for each, tensor in tensors.items() if not each.startswith("embedder.")}
    assert len(tensors) - len(left) == 8 + 2 * 12
    save_file(left, path)
    spec = small(ZOO[name])
    found = read_single(path, specs=[spec])
    assert found.spec == replace(spec, vision=None)
    assert found.notes == (f"{path} does not hold embedder.model.visual.*, without which no picture can be given: use a folder of it",)
    write_model(tmp_path / "folder", found)
    opened = read_model(tmp_path / "folder")
    assert opened.spec == found.spec
    (note,) = opened.notes
    assert "has no image_encoder, without which no picture can be given" in note
    write_single(path, opened)
    assert_equal(load_file(path), left)


UNET_NAME = "model.diffusion_model.middle_block.0.in_layers.2.weight"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({UNET_NAME: None}, f"does not fit sd15: 1 missing: {UNET_NAME}; use the weights of one model"),
        ({UNET_NAME: torch.ones(3)}, rf"1 of another shape: {UNET_NAME} \[3\] for \[16, 16, 3, 3\]"),
        ({"first_stage_model.quant_conv.bias": None}, "1 missing: first_stage_model.quant_conv.bias"),
        (
            {"cond_stage_model.transformer.text_model.final_layer_norm.weight": None},
            "1 missing: cond_stage_model.transformer.text_model.final_layer_norm.weight",
        ),
    ],
)
def test_what_does_not_fit_is_named_as_in_the_file(change: dict[str, Tensor | None], told: str, tmp_path: Path) -> None:
    tensors = tensors_of("sd15", path := tmp_path / "model.safetensors") | change
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    with pytest.raises(CheckpointError, match=told) as caught:
        read_single(path, specs=[small(SD15)])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_all_that_is_missing_is_named(tmp_path: Path) -> None:
    tensors = tensors_of("sd15", path := tmp_path / "model.safetensors")
    gone = sorted(name for name in tensors if name.startswith("first_stage_model.decoder.mid."))
    save_file({name: tensor for name, tensor in tensors.items() if name not in gone}, path)
    with pytest.raises(CheckpointError) as caught:
        read_single(path, specs=[small(SD15)])
    assert "\n" not in str(caught.value)
    assert len(gone) > 5 and sorted(caught.value.__notes__) == [f"missing: {name}" for name in gone]


def test_what_belongs_to_nothing_is_noted_and_kept(tmp_path: Path) -> None:
    tensors = tensors_of("sd15", path := tmp_path / "model.safetensors") | {"brand.new.weight": torch.ones(2)}
    save_file(tensors, path)
    found = read_single(path, specs=[small(SD15)])
    assert found.notes == (f"{path} has 1 tensors that belong to no part of sd15: brand.new.weight",)
    write_single(path, found)
    assert_equal(load_file(path), tensors)


def test_buffers_keep_their_precision(tmp_path: Path) -> None:
    scale = {"scale_factor": torch.tensor(0.22765929), "betas": torch.rand(5), "model_ema.decay": torch.tensor(0.9999)}
    write_single(path := tmp_path / "model.safetensors", replace(model("ldm-churches"), leftover=scale), precision=torch.float16)
    found = load_file(path)
    assert_equal({name: found[name] for name in scale}, scale)
    assert {tensor.dtype for name, tensor in found.items() if name not in scale} == {torch.float16}


def test_models_are_written_as_safetensors(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"name the file .*model\.safetensors"):
        write_single(tmp_path / "model.ckpt", model("sd15"))


# Against diffusers


PIPELINES = {
    "sd15": diffusers.StableDiffusionPipeline,
    "sd2-v": diffusers.StableDiffusionPipeline,
    "sdxl": diffusers.StableDiffusionXLPipeline,
}


@pytest.mark.parametrize("name", PIPELINES)
def test_diffusers_reads_what_is_written(name: str, tmp_path: Path) -> None:
    ours = read_single_of(name, tmp_path / "first.safetensors")
    more = {"cond_stage_model.model.text_projection": torch.rand(WIDTH, WIDTH)} if name == "sd2-v" else {}
    whole = replace(ours, leftover=more)  # from whose width diffusers takes that of the rest
    write_model(tmp_path / "folder", whole, precision=torch.float32)
    write_single(tmp_path / "file.safetensors", whole, precision=torch.float32)
    theirs = PIPELINES[name].from_single_file(tmp_path / "file.safetensors", config=str(tmp_path / "folder"), local_files_only=True)
    for part, states in ours.states.items():
        found = {dialects.native_name(each): tensor for each, tensor in getattr(theirs, part).state_dict().items()}
        assert_equal(
            {each: tensor for each, tensor in found.items() if not each.endswith("position_ids")},
            {each: tensor.float() for each, tensor in states.items()},
        )


def read_single_of(name: str, path: Path) -> Model:
    write_single(path, model(name))
    return read_single(path, specs=[model(name).spec])


# What a file is, of real sizes


@cache
def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    spec = ZOO[name]
    found: dict[str, tuple[int, ...]] = {}
    whole = networks(spec)
    for part in dialects.parts(spec):
        tensors = dialects.to_original(part.rules, whole[part.name].state_dict()) if part.rules else {}
        found |= {part.prefix + each: tuple(tensor.shape) for each, tensor in tensors.items()}
    return found


def identified(name: str, says: dict[str, Any] | None = None, where: str = "model.ckpt", **options: Any) -> detect.Found:
    return detect.identify(shapes_of(name), says or {}, where, **options)


@pytest.mark.parametrize("name", ZOO)
def test_every_variant_is_found(name: str) -> None:
    """Of its shapes, and of its name where it was made of another of the same shapes; sd2 and sd2-v are told apart below."""
    spec = ZOO[name]
    prediction = spec.schedule.prediction if name in ("sd2", "sd2-v", "sd-turbo") else None
    found = identified(name, where=f"/models/{name}.safetensors", prediction=prediction)
    assert found.spec == spec and not found.ema
    if prediction is None:
        assert found.known_by == "its shape: every published model of it predicts the same"


@pytest.mark.parametrize(
    ("says", "name", "known_by"),
    [
        ({"modelspec.prediction_type": "v"}, "sd2-v", "its metadata: modelspec.prediction_type"),
        ({"modelspec.prediction_type": "epsilon"}, "sd2", "its metadata: modelspec.prediction_type"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, "sd2-v", "its metadata: modelspec.architecture"),
        ({"modelspec.architecture": "stable-diffusion-v2-512"}, "sd2", "its metadata: modelspec.architecture"),
        ({"yaml": 'model:\n  params:\n    parameterization: "v"\n'}, "sd2-v", "the .yaml file beside it"),
        ({"yaml": "model:\n  params:\n    parameterization: eps  # not v\n"}, "sd2", "the .yaml file beside it"),
        ({"yaml": "model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n"}, "sd2", "the .yaml file beside it"),
        ({"global_step": 875_000}, "sd2", "its number of training steps, that of Stable Diffusion 2's base"),
        ({"global_step": 875_000, "modelspec.prediction_type": "v"}, "sd2-v", "its metadata: modelspec.prediction_type"),
        ({"modelspec.title": "SD-Turbo", "modelspec.prediction_type": "epsilon"}, "sd-turbo", "its metadata: modelspec.prediction_type"),
    ],
)
def test_how_a_prediction_is_known(says: dict[str, Any], name: str, known_by: str) -> None:
    found = identified("sd2", says)
    assert (found.spec, found.known_by) == (ZOO[name], known_by)


def test_a_prediction_that_is_not_known_is_asked_for() -> None:
    with pytest.raises(CheckpointError) as caught:
        identified("sd2", {"global_step": 12})
    assert str(caught.value) == (
        "model.ckpt does not say what its network predicts, and models of its shape differ: "
        "add --prediction eps (sd2, 512 px) or --prediction v (sd2-v, 768 px)"
    )
    assert identified("sd2", prediction="v").known_by == "as you said"


def test_keys_tell_of_later_xl_models() -> None:
    """Zero-size tensors mark those that predict v and whose last step is pure noise."""
    found = detect.identify(shapes_of("sdxl") | {"v_pred": (0,), "ztsnr": (0,)}, {}, "model.safetensors")
    assert found.spec.schedule == replace(SDXL.schedule, prediction="v", zero_terminal_snr=True)
    assert found.known_by == "the tensor v_pred in it"
    assert identified("sdxl", prediction="v").spec.schedule == replace(SDXL.schedule, prediction="v")


def test_averages_are_seen() -> None:
    shapes = shapes_of("sd15")
    averages = {dialects.ema_name(name): shape for name, shape in shapes.items() if name.startswith(detect.UNET)}
    assert detect.identify(shapes | averages, {}, "model.ckpt").ema


def of(name: str, *prefixes: str) -> dict[str, tuple[int, ...]]:
    """Some parts of a model's file."""
    return {each: shape for each, shape in shapes_of(name).items() if each.startswith(prefixes)}


LAYER = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
DOTTED = LAYER.replace("_blocks_", "_blocks.").replace("_attentions_", ".attentions.").replace("_attn1_", ".attn1.").replace("0_t", "0.t")
REFUSED: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "kohya": ({f"lora_unet_{LAYER}.lora_down.weight": (4, 320), f"lora_unet_{LAYER}.lora_up.weight": (320, 4)}, "is a LoRA"),
    "kohya, of text": ({"lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha": (), "lora_te1_x.lora_down.weight": (4, 768)}, "is a LoRA"),
    "processors": ({f"unet.{DOTTED}.processor.to_q_lora.down.weight": (4, 320)}, "is a LoRA"),
    "diffusers": ({f"unet.{DOTTED}.lora.down.weight": (4, 320), f"unet.{DOTTED}.lora.up.weight": (320, 4)}, "is a LoRA"),
    "text of diffusers": ({"text_encoder.text_model.x.lora_linear_layer.up.weight": (768, 4)}, "is a LoRA"),
    "PEFT": ({f"base_model.model.{DOTTED}.lora_A.weight": (4, 320), f"base_model.model.{DOTTED}.lora_B.weight": (320, 4)}, "is a LoRA"),
    "LoHa": ({f"lora_unet_{LAYER}.hada_w1_a": (320, 4), f"lora_unet_{LAYER}.hada_w1_b": (4, 320)}, "is a LoRA"),
    "LoKr": ({f"lora_unet_{LAYER}.lokr_w1": (4, 4), f"lora_unet_{LAYER}.lokr_w2": (80, 80)}, "is a LoRA"),
    "embedding of A1111": ({"string_to_param.*": (3, 768)}, "is a textual inversion embedding"),
    "embedding of diffusers": ({"<cat>": (768,)}, "is a textual inversion embedding"),
    "emb_params": ({"emb_params": (3, 1024)}, "is a textual inversion embedding"),
    "embedding of XL": ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "is a textual inversion embedding"),
    "ControlNet": ({"control_model.input_hint_block.0.weight": (16, 3, 3, 3), "control_model.zero_convs.0.0.bias": (320,)}, "ControlNet"),
    "ControlNet of diffusers": ({"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3)}, "is a ControlNet"),
    "Control-LoRA": ({"lora_controlnet": (0,), "input_blocks.0.0.weight": (320, 4, 3, 3)}, "is a ControlNet"),
    "T2I-Adapter": ({"adapter.body.0.in_conv.weight": (320, 192, 3, 3)}, "is an adapter"),
    "IP-Adapter": ({"image_proj.proj.weight": (3072, 1024), "ip_adapter.1.to_k_ip.weight": (320, 768)}, "is an adapter"),
    "nothing": ({}, "holds no model of the latent diffusion family"),
    "something else": ({"layers.0.weight": (3, 3)}, "holds no model of the latent diffusion family"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_model_is_refused_for_what_it_is(name: str) -> None:
    shapes, told = REFUSED[name]
    with pytest.raises(CheckpointError, match=told) as caught:
        detect.identify(shapes, {}, "file.safetensors")
    assert str(caught.value).startswith("file.safetensors ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "prefixes", "told"),
    [
        ("sd15", ["first_stage_model."], "is an autoencoder alone"),
        ("sd15", ["model.diffusion_model."], "is a U-Net alone"),
        ("sdxl", ["model.diffusion_model."], "is a U-Net alone"),
        ("sd15", ["cond_stage_model."], "is a text encoder alone"),
        ("sd2", ["cond_stage_model."], "is a text encoder alone"),
        ("sdxl", ["conditioner."], "is a text encoder alone"),
        ("sd15", ["model.diffusion_model.", "first_stage_model."], "the U-Net of sd15 without its other parts"),
        ("sdxl", ["model.", "first_stage_model.", "conditioner.embedders.0."], "the U-Net of sdxl without its other parts"),
        ("ldm-imagenet", ["model.", "first_stage_model."], "the U-Net of ldm-imagenet without its other parts"),
    ],
)
def test_a_part_alone_is_refused(name: str, prefixes: list[str], told: str) -> None:
    with pytest.raises(CheckpointError, match=f"^model.ckpt (holds )?{told}"):
        detect.identify(of(name, *prefixes), {}, "model.ckpt")
    bare = {each.removeprefix(prefixes[0]): shape for each, shape in of(name, prefixes[0]).items()}
    if "U-Net alone" in told:  # by its bare names, as it is passed around
        with pytest.raises(CheckpointError, match=told):
            detect.identify(bare, {}, "model.ckpt")


def test_an_unknown_width_is_told() -> None:
    wide = {name: tuple(1152 if side == 1280 else side for side in shape) for name, shape in shapes_of("sd15").items()}
    with pytest.raises(
        CheckpointError, match=r"a U-Net of no known variant \(of 4 input channels, widths 320-640-1152-1152, context 768\)"
    ):
        detect.identify(wide, {}, "model.ckpt")


def test_half_a_network_is_told() -> None:
    with pytest.raises(CheckpointError, match=r"looking for 'output_blocks'"):
        detect.identify({name: shape for name, shape in shapes_of("sd15").items() if "output_blocks" not in name}, {}, "model.ckpt")
    half = {name: shape for name, shape in shapes_of("sd15").items() if "input_blocks.4" not in name}
    with pytest.raises(
        CheckpointError, match=r"no complete U-Net of the family \(looking for 'input_blocks\.4\.0\.out_layers\.3\.weight'\)"
    ):
        detect.identify(half, {}, "model.ckpt")


# Of no published variant


def test_a_model_of_ones_own_is_its_own_description(tmp_path: Path) -> None:
    """Trained here, of shapes and words that no table knows: one file is enough to use it elsewhere."""
    words = Tokenizer(*word_vocabulary(["red", "star"]), length=9)
    text = TextConfig(len(words.vocab), 9, 16, 1, 2, 32, eos_id=words.eos_id, pad_id=words.pad_id)
    unet = replace(small(SD15).unet, context_width=16, vector_width=16, vector_name="class_embedding")
    schedule = ScheduleConfig(kind="cosine", prediction="v", final_sigma_zero=True)
    spec = replace(small(SD15), name="mine", unet=unet, text=text, schedule=schedule, steps=7, sampler="heun")
    states = {part: {name: torch.rand(t.shape) for name, t in each.state_dict().items()} for part, each in networks(spec).items()}
    write_single(path := tmp_path / "mine.safetensors", Model(spec, states, (words,)))
    found = read_single(path)
    assert found.spec == spec and found.tokenizers[0]("red star") == words("red star")
    for part, state in states.items():
        assert_equal(found.states[part], state)
    with_changed = load_file(path)
    for wrong in ("{", "[]", '{"spec": {"is": "Path"}, "words": []}', '{"spec": {"is": "UNetConfig"}, "words": []}', '{"spec": 3}'):
        save_file(with_changed, path, {"sumi": wrong})
        with pytest.raises(CheckpointError, match=r"mine\.safetensors describes its model in a way that cannot be read"):
            read_single(path)
