"""Folders that we write open in diffusers and transformers, and theirs open here, with the same numbers."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sumi.config import AutoencoderConfig, ModelSpec, ScheduleConfig, TextConfig, UNetConfig
from sumi.errors import CheckpointError, OutputError
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.clip import TextEncoder
from sumi.nets.layers import timestep_embedding
from sumi.nets.unet import UNet
from sumi.store.checkpoint import load
from sumi.store.described import read_spec
from sumi.store.folder import (
    Parts,
    read_autoencoder,
    read_folder,
    read_text_encoder,
    read_unet,
    write_autoencoder,
    write_folder,
    write_text_encoder,
)
from sumi.text.bpe import Tokenizer, word_vocabulary
from support import assert_agree, randomise

WORDS = ["a", "red", "circle", "and", "square"]
VOCAB, MERGES = word_vocabulary(WORDS)
EOS = VOCAB["<|endoftext|>"]

UNET = UNetConfig(
    block_channels=(16, 32), attention_depth=(1, 0), cross_only=(False,) * 2, layers_per_block=1, heads=2, context_width=24, norm_groups=8
)
KL = AutoencoderConfig(block_channels=(8, 16), attention_levels=(False, True), layers_per_block=1, norm_groups=4)
CLIP = TextConfig(vocab_size=len(VOCAB), length=12, width=24, layers=2, heads=2, mlp_width=32, eos_id=EOS, pad_id=EOS)
PROJECTED = replace(CLIP, width=16, activation="gelu", projection_width=20, pad_id=0)
LINEAR = replace(UNET, attention_depth=(1, 2), middle_depth=2, heads=None, head_width=8, linear_projection=True)
PLAIN = replace(UNET, attention_depth=(0, 1), heads=None, head_width=8, context_width=None)

SPECS = {
    "sd1": ModelSpec("tiny sd1", UNET, KL, CLIP, size=(16, 24)),
    "sd2": ModelSpec(
        "tiny sd2", LINEAR, KL, replace(CLIP, activation="gelu", pad_id=0), schedule=ScheduleConfig(prediction="v"), size=(32, 32), steps=9
    ),
    "sdxl": ModelSpec(
        "tiny sdxl",
        replace(LINEAR, attention_depth=(0, 2), context_width=24 + 16, vector_width=20 + 6 * 256),
        replace(KL, latent_scale=0.13025),
        replace(CLIP, output_layer=-2, final_norm=False),
        replace(PROJECTED, output_layer=-2, final_norm=False),
        size=(32, 16),
        sampler="euler",
        spacing="karras",
        guidance=5.0,
    ),
    "words": ModelSpec("tiny words", replace(UNET, vector_width=20, vector_name="class_embedding"), KL, replace(PROJECTED, width=24)),
    "patches": ModelSpec("tiny patches", UNET, replace(KL, patch_size=2), CLIP, size=(32, 32)),
    "labels": ModelSpec("tiny labels", replace(UNET, label_classes=7), KL, CLIP, sampler="heun", spacing="trailing"),
    "faces": ModelSpec("tiny faces", PLAIN, replace(KL, latent_scale=1.0, codebook_size=13), None),
}


@cache
def parts(name: str) -> Parts:
    spec = SPECS[name]
    texts = [text for text in (spec.text, spec.text_2) if text is not None]
    return Parts(
        randomise(UNet(spec.unet)),  # type: ignore[arg-type]
        randomise(Autoencoder(spec.autoencoder)),  # type: ignore[arg-type]
        tuple(randomise(TextEncoder(text)) for text in texts),  # type: ignore[misc]
        tuple(Tokenizer(VOCAB, MERGES, text.length, text.pad_id) for text in texts),
    )


@pytest.fixture
def sd1(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    write_folder(path, SPECS["sd1"], parts("sd1"))
    return path


def edit(path: Path, **changes: Any) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in (found | changes).items() if value is not ...}))


def modules(found: Parts) -> list[nn.Module]:
    return [found.unet, found.autoencoder, *found.text_encoders]


def same_weights(a: Parts, b: Parts, cast: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> bool:
    pairs = zip(modules(a), modules(b), strict=True)
    states = [(one.state_dict(), other.state_dict()) for one, other in pairs]
    return all(x.keys() == y.keys() and all(torch.equal(cast(x[key]), y[key]) for key in x) for x, y in states)


@pytest.mark.parametrize("name", SPECS)
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path / "model", SPECS[name], parts(name))
    spec, found = read_folder(tmp_path / "model")
    assert spec == SPECS[name] == read_spec(tmp_path / "model")
    assert same_weights(parts(name), found)
    assert [tokenizer("a red zebra!") for tokenizer in found.tokenizers] == [t("a red zebra!") for t in parts(name).tokenizers]
    assert not any(module.training for module in modules(found))
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


@pytest.mark.parametrize("name", SPECS)
@torch.no_grad()
def test_diffusers_opens_the_networks(tmp_path: Path, name: str) -> None:
    import diffusers

    spec, ours = SPECS[name], parts(name)
    write_folder(tmp_path, spec, ours)
    index = json.loads((tmp_path / "model_index.json").read_text())

    theirs: Any = getattr(diffusers, index["unet"][1]).from_pretrained(tmp_path, subfolder="unet")
    x, t, context = torch.randn(2, 4, 8, 8), torch.tensor([10, 900]), torch.randn(2, 5, spec.unet.context_width or 1)
    vector, keywords = None, {} if spec.unet.context_width is None else {"encoder_hidden_states": context}
    if spec.unet.label_classes is not None:
        keywords["class_labels"] = vector = torch.tensor([0, 6])
    elif spec.unet.vector_name == "class_embedding":
        keywords["class_labels"] = vector = torch.randn(2, 20)
    elif spec.unet.vector_width is not None:
        pooled, sizes = torch.randn(2, 20), torch.tensor([[32.0, 16, 0, 4, 32, 16]] * 2)
        vector = torch.cat([pooled, timestep_embedding(sizes.flatten(), 256).reshape(2, -1)], dim=1)
        keywords["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
    out = theirs(x, t, **keywords).sample
    assert_agree(ours.unet(x, t, None if spec.unet.context_width is None else context, vector), out)

    folder = "vqvae" if "vqvae" in index else "vae"
    vae: Any = getattr(diffusers, index[folder][1]).from_pretrained(tmp_path, subfolder=folder)
    image, patch = torch.rand(1, 3, 8, 8) * 2 - 1, spec.autoencoder.patch_size
    encoded = vae.encode(F.pixel_unshuffle(image, patch))
    latent = encoded.latents if spec.autoencoder.codebook_size else encoded.latent_dist.mean
    assert vae.config.scaling_factor == spec.autoencoder.latent_scale
    assert_agree(ours.autoencoder.encode(image).mode(), latent * vae.config.scaling_factor)
    assert_agree(ours.autoencoder.decode(latent * vae.config.scaling_factor), F.pixel_shuffle(vae.decode(latent).sample, patch))

    scheduler = diffusers.DDIMScheduler.from_pretrained(tmp_path, subfolder="scheduler")
    assert scheduler.config.prediction_type == {"eps": "epsilon", "v": "v_prediction"}[spec.schedule.prediction]
    assert scheduler.config.timestep_spacing == ("linspace" if spec.spacing == "karras" else spec.spacing)


@pytest.mark.parametrize(("name", "suffix"), [("sd1", ""), ("sd2", ""), ("words", ""), ("sdxl", ""), ("sdxl", "_2")])
@torch.no_grad()
def test_transformers_opens_the_text_encoders(tmp_path: Path, name: str, suffix: str) -> None:
    import transformers

    write_folder(tmp_path, SPECS[name], parts(name))
    index = json.loads((tmp_path / "model_index.json").read_text())
    tokenizer = transformers.CLIPTokenizerFast.from_pretrained(tmp_path, subfolder=f"tokenizer{suffix}")
    theirs: Any = getattr(transformers, index[f"text_encoder{suffix}"][1]).from_pretrained(tmp_path, subfolder=f"text_encoder{suffix}")
    ours, ids = parts(name).text_encoders[bool(suffix)], parts(name).tokenizers[bool(suffix)]("a red circle, unheard")
    assert tokenizer("a red circle, unheard", padding="max_length", truncation=True).input_ids == ids
    expected, features = theirs(torch.tensor([ids]), output_hidden_states=True), ours(torch.tensor([ids]))
    pooled = expected.text_embeds if ours.config.projection_width else expected.pooler_output
    assert_agree(features.pooled, pooled)
    assert_agree(features.hidden, expected.last_hidden_state if ours.config.final_norm else expected.hidden_states[-2])


def test_diffusers_opens_the_whole(sd1: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(sd1)
    assert pipeline.safety_checker is None
    ids = pipeline.tokenizer("a red square", padding="max_length").input_ids
    assert ids == parts("sd1").tokenizers[0]("a red square")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ["sd1", "sdxl", "faces"])
@torch.no_grad()
def test_a_folder_of_diffusers_opens_here(tmp_path: Path, name: str) -> None:
    """What diffusers and transformers save of their own networks, whose descriptions we did not write."""
    import diffusers
    import transformers

    write_folder(tmp_path / "ours", SPECS[name], parts(name))
    index = json.loads((tmp_path / "ours" / "model_index.json").read_text())
    theirs = tmp_path / "theirs"
    for part, (library, kind) in ((key, value) for key, value in index.items() if isinstance(value, list) and value[0]):
        kind = "CLIPTokenizerFast" if kind == "CLIPTokenizer" else kind
        source = {"diffusers": diffusers, "transformers": transformers}[library]
        getattr(source, kind).from_pretrained(tmp_path / "ours", subfolder=part).save_pretrained(theirs / part)
    (theirs / "model_index.json").write_text(json.dumps({key: value for key, value in index.items() if key != "sumi"}))
    spec, found = read_folder(theirs)
    assert same_weights(parts(name), found)
    expected = SPECS[name]
    # Their files do not say these; and all their schedulers but one end at 0.
    schedule = replace(expected.schedule, final_sigma_zero=expected.schedule.final_sigma_zero or expected.sampler != "ddim")
    assert spec == replace(expected, name="theirs", steps=50, guidance=7.5, schedule=schedule)


def rename(path: Path, new: Callable[[str], str]) -> None:
    save_file({new(name): tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})


def test_names_of_other_versions_open(sd1: Path) -> None:
    text, vae = sd1 / "text_encoder" / "model.safetensors", sd1 / "vae" / "diffusion_pytorch_model.safetensors"
    assert any(name.startswith("text_model.") for name in load(text))
    rename(text, lambda name: name.removeprefix("text_model."))  # transformers 5
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    rename(vae, lambda name: next((name.replace(f".{new}.", f".{was}.") for new, was in old.items() if f".{new}." in name), name))
    assert any("proj_attn" in name for name in load(vae))
    assert same_weights(parts("sd1"), read_folder(sd1)[1])


def test_old_position_ids_are_passed_over(sd1: Path) -> None:
    file = sd1 / "text_encoder" / "model.safetensors"
    save_file(load_file(file) | {"text_model.embeddings.position_ids": torch.arange(12)[None]}, file, {"format": "pt"})
    assert same_weights(parts("sd1"), read_folder(sd1)[1])


def test_half_precision_is_half_the_size_and_close(tmp_path: Path, sd1: Path) -> None:
    write_folder(tmp_path / "half", SPECS["sd1"], parts("sd1"), dtype=torch.float16)
    whole, half = ((path / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size for path in (sd1, tmp_path / "half"))
    assert half < 0.6 * whole
    found = read_folder(tmp_path / "half")[1]
    assert found.unet.conv_in.weight.dtype == torch.float32
    assert same_weights(parts("sd1"), found, lambda tensor: tensor.half().float())
    assert read_folder(tmp_path / "half", torch.bfloat16)[1].unet.conv_in.weight.dtype == torch.bfloat16


def test_shards_and_variants_open(sd1: Path) -> None:
    unet = sd1 / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(unet)
    names = sorted(tensors)
    shards = {f"{unet.stem}-0000{n + 1}-of-00002.safetensors": names[n::2] for n in range(2)}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, unet.parent / shard)
    unet.unlink()
    index = {"metadata": {}, "weight_map": {name: shard for shard, members in shards.items() for name in members}}
    (unet.parent / f"{unet.name}.index.json").write_text(json.dumps(index))
    vae = sd1 / "vae" / "diffusion_pytorch_model.safetensors"
    vae.rename(vae.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert same_weights(parts("sd1"), read_folder(sd1)[1])
    (unet.parent / min(shards)).unlink()
    with pytest.raises(CheckpointError, match=r"00001-of-00002\.safetensors is missing"):
        read_folder(sd1)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/secret.safetensors", "..", "a/b.safetensors", "x.txt", 3, None])
def test_an_index_may_not_lead_out_of_the_folder(sd1: Path, name: object) -> None:
    file = sd1 / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copy(file, sd1 / "secret.safetensors")
    file.unlink()
    (sd1 / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="outside of its folder"):
        read_folder(sd1)


def test_only_the_second_text_encoder(tmp_path: Path) -> None:
    """As SDXL's refiner is published."""
    spec = replace(SPECS["sdxl"], text=SPECS["sdxl"].text_2, text_2=None)
    both = parts("sdxl")
    write_folder(tmp_path, spec, replace(both, text_encoders=both.text_encoders[1:], tokenizers=both.tokenizers[1:]))
    assert not (tmp_path / "text_encoder").exists() and (tmp_path / "tokenizer_2").is_dir()
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["text_encoder"] == [None, None] and index["text_encoder_2"] == ["transformers", "CLIPTextModelWithProjection"]
    assert index["_class_name"] == "StableDiffusionXLImg2ImgPipeline" and index["requires_aesthetics_score"]
    assert read_folder(tmp_path)[0] == spec


@pytest.mark.parametrize("name", ["patches", "sdxl", "faces"])
def test_parts_are_read_alone(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, SPECS[name], parts(name))
    found = Parts(
        read_unet(tmp_path / "unet"),
        read_autoencoder(tmp_path / ("vqvae" if name == "faces" else "vae")),
        tuple(read_text_encoder(tmp_path / f"text_encoder{suffix}") for suffix in ("", "_2")[: len(parts(name).text_encoders)]),
    )
    assert [module.config for module in modules(found)] == [module.config for module in modules(parts(name))]
    assert same_weights(parts(name), found)


def test_parts_are_written_alone(tmp_path: Path) -> None:
    ours = parts("sdxl")
    config = replace(ours.autoencoder.config, latent_scale=0.5, patch_size=1)
    for _ in range(2):  # the second time in the place of the first
        write_autoencoder(tmp_path / "vae", config, ours.autoencoder.state_dict())
        write_text_encoder(tmp_path / "text_encoder", ours.text_encoders[1].config, ours.text_encoders[1].state_dict(), torch.float16)
    ours.tokenizers[1].save(tmp_path / "tokenizer")
    autoencoder, encoder = read_autoencoder(tmp_path / "vae"), read_text_encoder(tmp_path / "text_encoder")
    assert autoencoder.config == config and encoder.config == ours.text_encoders[1].config
    assert torch.equal(autoencoder.quant_conv.weight, ours.autoencoder.quant_conv.weight)
    assert torch.equal(encoder.text_projection.weight, ours.text_encoders[1].text_projection.weight.half().float())
    with pytest.raises(OutputError, match="holds other files"):
        write_autoencoder(tmp_path, config, ours.autoencoder.state_dict())
    shutil.rmtree(tmp_path / "tokenizer")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        read_text_encoder(tmp_path / "text_encoder")


# ------------------------------------------------------------------------------------------------------ damage


def damage_json(path: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / path, **changes)


def cut(path: str, size: int) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / path, size)


def remove(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).unlink() if (folder / path).is_file() else shutil.rmtree(folder / path)


def misnamed(folder: Path) -> None:
    torch.save({"a": torch.ones(1)}, folder / "vae" / "diffusion_pytorch_model.safetensors")


UNET_FILE, UNET_CONFIG = "unet/diffusion_pytorch_model.safetensors", "unet/config.json"
DAMAGE = {
    "no folder": (remove("."), "model_index.json is missing"),
    "no index": (remove("model_index.json"), "model_index.json is missing"),
    "no weights": (remove(UNET_FILE), "unet has no weights (diffusion_pytorch_model.safetensors)"),
    "no config": (remove(UNET_CONFIG), f"{UNET_CONFIG} is missing"),
    "no scheduler": (remove("scheduler"), "scheduler_config.json is missing"),
    "no text encoder": (remove("text_encoder"), "text_encoder/config.json is missing"),
    "no tokenizer": (remove("tokenizer"), "tokenizer.json is missing"),
    "weights of something else": (misnamed, "its vae, does not fit the model: 154 missing"),
    "weights cut": (cut(UNET_FILE, 5000), f"{UNET_FILE} is"),
    "config cut": (cut(UNET_CONFIG, 40), f"{UNET_CONFIG} is damaged"),
    "config without a field": (damage_json(UNET_CONFIG, in_channels=...), "in_channels"),
    "config of another network": (damage_json(UNET_CONFIG, cross_attention_dim=32), "of another shape"),
    "more layers than weights": (damage_json(UNET_CONFIG, layers_per_block=2), "missing: "),
    "no channels": (damage_json(UNET_CONFIG, block_out_channels=[]), UNET_CONFIG),
    "zero channels": (damage_json(UNET_CONFIG, block_out_channels=[0, 0]), UNET_CONFIG),
    "groups that do not divide": (damage_json(UNET_CONFIG, norm_num_groups=7), "describes no network that there can be (num_channels"),
    "no groups": (damage_json(UNET_CONFIG, norm_num_groups=0), UNET_CONFIG),
    "no heads": (damage_json(UNET_CONFIG, attention_head_dim=[0, 0]), UNET_CONFIG),
    "negative width": (damage_json(UNET_CONFIG, cross_attention_dim=-1), UNET_CONFIG),
    "size of nothing": (damage_json(UNET_CONFIG, sample_size=[]), UNET_CONFIG),
    "a shorter text encoder": (damage_json("text_encoder/config.json", max_position_embeddings=5), "not of one model"),
    "a smaller vocabulary": (damage_json("text_encoder/config.json", vocab_size=99), "not of one model"),
    "no architecture": (damage_json("text_encoder/config.json", architectures=[]), "text_encoder/config.json"),
    "an unknown setting": (damage_json("model_index.json", sumi={"colour": 1}), "model_index.json"),
    "a setting of the wrong type": (damage_json("model_index.json", sumi={"size": "big"}), "size"),
    "settings of the wrong type": (damage_json("model_index.json", sumi=[1]), "model_index.json"),
    "a text encoder it does not have": (damage_json("model_index.json", sumi={"text": None}), "model_index.json"),
    "a setting that does not fit": (damage_json("model_index.json", sumi={"unet": {"cross_only": [True]}}), "cross_only"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_one_line_that_names_the_file(sd1: Path, case: str) -> None:
    change, words = DAMAGE[case]
    change(sd1)
    with pytest.raises(CheckpointError) as caught:
        read_folder(sd1)
    assert words in str(caught.value) and str(sd1) in str(caught.value) and "\n" not in str(caught.value)


# ----------------------------------------------------------------------------------------------------- writing


def test_a_folder_of_ours_is_replaced_another_is_not(tmp_path: Path, sd1: Path) -> None:
    (sd1 / "stray.txt").write_text("x")
    with pytest.raises(OutputError, match="holds other files"):
        write_folder(sd1, SPECS["faces"], parts("faces"))
    (sd1 / "stray.txt").unlink()
    write_folder(sd1, SPECS["faces"], parts("faces"))
    assert read_spec(sd1) == SPECS["faces"]
    assert sorted(file.name for file in sd1.iterdir()) == ["model_index.json", "scheduler", "unet", "vqvae"]
    (tmp_path / "home").mkdir()
    write_folder(tmp_path / "home", SPECS["faces"], parts("faces"))  # empty: nothing to lose
    (sd1 / "model_index.json").unlink()
    for path in (sd1, tmp_path):
        with pytest.raises(OutputError, match="holds other files"):
            write_folder(path, SPECS["sd1"], parts("sd1"))
    assert (sd1 / "unet" / "config.json").is_file()


def test_a_failure_leaves_nothing(tmp_path: Path, sd1: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Tokenizer, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Tokenizer, "save", fails)
    for path in (sd1, tmp_path / "new"):
        with pytest.raises(OutputError, match="No space left"):
            write_folder(path, SPECS["sd1"], parts("sd1"))
    assert list(tmp_path.iterdir()) == [sd1]
    assert same_weights(parts("sd1"), read_folder(sd1)[1])
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        write_folder(tmp_path / "file" / "model", SPECS["faces"], parts("faces"))


def test_parts_of_another_spec_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="networks"):
        write_folder(tmp_path / "model", SPECS["sd2"], parts("sd1"))
    short = replace(parts("sd1"), tokenizers=(Tokenizer(VOCAB, MERGES, 9),))
    with pytest.raises(ValueError, match="tokenizers"):
        write_folder(tmp_path / "model", SPECS["sd1"], short)
    assert not any(tmp_path.iterdir())
