"""The tasks with the smallest networks, on pictures of 16 pixels: what they learn from, what they learn, and that nothing else decides."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sumi
import sumi.train.contexts
import sumi.train.data
import sumi.train.tasks.autoencoder
from sumi.config import AutoencoderConfig, LabelConfig, MapConfig, ModelSpec, ScheduleConfig, TextConfig, UNetConfig, VisionConfig
from sumi.diffusion.denoiser import Denoiser
from sumi.diffusion.schedule import Schedule
from sumi.errors import RecipeError
from sumi.models.channels import channels
from sumi.models.latent_diffusion import Inputs
from sumi.nets.autoencoder import Autoencoder
from sumi.pipeline import illustrate
from sumi.store.folder import read_autoencoder, read_text_encoder
from sumi.text.bpe import Tokenizer, word_vocabulary
from sumi.train.contexts import JOBS
from sumi.train.data import crowd, draw, normal, sheet, to_pictures, to_tensor
from sumi.train.ema import Weights
from sumi.train.loop import Task, Training, train
from sumi.train.scenes import Scene, World, render
from sumi.train.scenes.vocabulary import SHAPES
from sumi.train.scenes.world import held_out
from sumi.train.tasks.autoencoder import AutoencoderTask
from sumi.train.tasks.clip import ClipTask
from sumi.train.tasks.noise_predictor import NoisePredictorTask, extend_inputs, extend_vocabulary, fresh_text_encoder
from support import randomise

SIZE = 16
AUTOENCODER = AutoencoderConfig(block_channels=(8, 16), layers_per_block=1, attention_levels=(False, False), norm_groups=4)
TOKENIZER = Tokenizer(*word_vocabulary(World("shapes").words), length=24)
TEXT = TextConfig(
    vocab_size=len(TOKENIZER.vocab),
    length=24,
    width=16,
    layers=1,
    heads=2,
    mlp_width=32,
    projection_width=16,
    eos_id=TOKENIZER.eos_id,
    pad_id=TOKENIZER.pad_id,
)
UNET = UNetConfig(
    block_channels=(16, 32),
    layers_per_block=1,
    attention_depth=(0, 1),
    heads=2,
    context_width=16,
    vector_width=16,
    vector_name="class_embedding",
    cross_only=(False, False),
    norm_groups=8,
)
SPEC = ModelSpec(
    "tiny",
    unet=UNET,
    autoencoder=AUTOENCODER,
    text=TEXT,
    schedule=ScheduleConfig(kind="cosine", prediction="v", final_sigma_zero=True),
    size=(SIZE, SIZE),
    steps=2,
    guidance=2.0,
    spacing="trailing",
)


def autoencoder_task(**options: Any) -> AutoencoderTask:
    torch.manual_seed(0)
    return AutoencoderTask(AUTOENCODER, **{"vocabulary": "shapes", "size": SIZE, "batch": 8} | options)


def clip_task() -> ClipTask:
    torch.manual_seed(0)
    vision = VisionConfig(image_size=SIZE, patch_size=8, width=16, layers=1, heads=2, mlp_width=32, projection_width=16)
    return ClipTask(TEXT, vision, TOKENIZER, vocabulary="shapes", batch=16)


def noise_predictor_task(random: bool = False, **options: Any) -> NoisePredictorTask:
    """With a fresh UNet, or one of random weights, whose output depends on what it is told."""
    torch.manual_seed(0)
    settings = {"vocabulary": "shapes", "batch": 8, "cache": 32, "reuse": 2} | options
    task = NoisePredictorTask(SPEC, Autoencoder(AUTOENCODER), TOKENIZER, fresh_text_encoder(TEXT), **settings)
    if random:
        randomise(task.unet)
    return task


TASKS: dict[str, Callable[[], Any]] = {"autoencoder": autoencoder_task, "clip": clip_task, "noise_predictor": noise_predictor_task}
tasks = pytest.mark.parametrize("make", TASKS.values(), ids=TASKS)


def rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def gradients(task: Task, loss: Tensor) -> dict[str, Tensor | None]:
    learning = {name: p for name, p in nn.ModuleDict(task.modules).named_parameters() if p.requires_grad}
    return dict(zip(learning, torch.autograd.grad(loss, list(learning.values()), allow_unused=True), strict=True))


@tasks
def test_the_loss_of_a_batch_falls(make: Callable[[], Task]) -> None:
    task = make()
    optimiser = torch.optim.AdamW(nn.ModuleDict(task.modules).parameters(), lr=4e-3)
    losses = []
    for _ in range(30):
        loss, figures = task.loss(0, rng(0))
        assert all(np.isfinite(value) for value in figures.values())
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.85 * losses[0]


@tasks
def test_a_loss_is_a_function_of_the_weights_the_seed_and_the_step(make: Callable[[], Task]) -> None:
    first, second = make(), make()

    def found(task: Task, step: int) -> tuple[float, dict[str, float]]:
        loss, figures = task.loss(step, rng(0, step))
        return float(loss.detach()), figures

    expected = {step: found(first, step) for step in (0, 3, 9)}  # step 9 is of another epoch of latents than 0 and 3
    torch.manual_seed(5)
    assert {step: found(second, step) for step in (9, 3, 0)} == expected
    assert len({loss for loss, _ in expected.values()}) == 3


@tasks
def test_training_is_in_bfloat16_and_validation_in_float32(make: Callable[[], Task]) -> None:
    task = make()
    whole = nn.ModuleDict(task.modules)
    exact, _ = task.loss(0, rng(0))
    weights = Weights(whole, torch.bfloat16, 0.9)
    loss, figures = task.loss(0, rng(0))
    loss.backward()
    assert loss.dtype == torch.float32 and float(loss.detach()) == pytest.approx(float(exact.detach()), rel=0.1)
    assert all(np.isfinite(value) for value in figures.values())
    with weights.averaged(), torch.inference_mode():
        assert all(np.isfinite(value) for value in task.validate().values())
        task.pictures()


@pytest.mark.parametrize(
    ("make", "shared"),
    [
        (autoencoder_task, lambda task: task.autoencoder.decoder),
        (clip_task, lambda task: task.vision),
        (noise_predictor_task, lambda task: task.unet),
    ],
    ids=TASKS,
)
def test_two_workers_at_once_find_what_each_finds_alone(make: Callable[[], Task], shared: Callable[[Task], nn.Module]) -> None:
    task = make()

    def work(worker: int) -> tuple[float, dict[str, float], dict[str, Tensor | None]]:
        loss, figures = task.loss(0, rng(0, 0, worker))
        return float(loss.detach()), figures, gradients(task, loss)

    alone = [work(worker) for worker in range(2)]
    meeting = Barrier(2, timeout=30)

    def meet(*_: object) -> None:
        """Neither goes on before both have been through the network."""
        meeting.wait()

    shared(task).register_forward_hook(meet)
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(work, range(2)))
    for (loss, figures, slopes), (other_loss, other_figures, other_slopes) in zip(alone, together, strict=True):
        assert (loss, figures) == (other_loss, other_figures)
        assert [name for name in slopes if slopes[name] is None] == [name for name in slopes if other_slopes[name] is None]
        assert all(torch.equal(slope, other_slopes[name]) for name, slope in slopes.items() if slope is not None)


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[Scene]:
    """Every scene that a task renders from now on."""
    scenes: list[Scene] = []

    def spy(scene: Scene, size: int) -> np.ndarray:
        scenes.append(scene)
        return render(scene, size)

    monkeypatch.setattr(sumi.train.contexts, "render", spy)
    monkeypatch.setattr(sumi.train.data, "render", spy)
    monkeypatch.setattr(sumi.train.tasks.autoencoder, "render", spy)
    return scenes


def shows_held_out(scene: Scene) -> bool:
    """Whether there is a held-out combination in the picture, said or not."""
    colours = {thing.group: thing.colour for thing in scene.things}
    groups = [replace(group, colour=colours[index]) for index, group in enumerate(scene.groups)]
    return held_out(groups, scene.relation, scene.background)


@tasks
def test_training_never_shows_a_held_out_combination(make: Callable[[], Any], rendered: list[Scene]) -> None:
    task = make()
    assert len(rendered) >= 128 and all(map(shows_held_out, rendered))  # what it is validated on
    rendered.clear()
    for step in range(24):
        task.loss(step, rng(0, step))
    captioned = [scene for scene in rendered if scene.caption]
    assert len(captioned) >= 64 and not any(map(shows_held_out, captioned))
    things = [thing for scene in rendered for thing in scene.things if thing.name in SHAPES]
    assert not any(held_out([replace(captioned[0].groups[0], name=thing.name, colour=thing.colour)], None, None) for thing in things)


@tasks
def test_validation_depends_on_the_weights_alone(make: Callable[[], Task]) -> None:
    task = make()
    with torch.no_grad():
        first = task.validate()
        assert all(np.isfinite(value) for value in first.values())
        torch.manual_seed(3)
        task.loss(1, rng(1))
        assert task.validate() == first
        assert make().validate() == first
        for parameter in nn.ModuleDict(task.modules).parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        assert task.validate() != first


@pytest.mark.parametrize(
    ("make", "pictures"),
    [
        (autoencoder_task, {"reconstructions": (4 * (SIZE + 2) - 2, 8 * (SIZE + 2) - 2, 3)}),
        (clip_task, {}),
        (noise_predictor_task, {}),
        (lambda: noise_predictor_task(prompts=("a star",) * 9), {"prompts": (2 * (SIZE + 2) - 2, 8 * (SIZE + 2) - 2, 3)}),
    ],
    ids=[*TASKS, "noise_predictor with prompts"],
)
def test_pictures_are_sheets(make: Callable[[], Task], pictures: dict[str, tuple[int, ...]]) -> None:
    with torch.inference_mode():
        found = make().pictures()
    assert {name: picture.shape for name, picture in found.items()} == pictures
    assert all(picture.dtype == np.uint8 for picture in found.values())


def test_one_prompt_is_the_same_picture_wherever_it_stands() -> None:
    task = noise_predictor_task(random=True)
    with torch.inference_mode():
        alone, beside = task.sample(("a red star",)), task.sample(("a red star", "a cross"))
    torch.testing.assert_close(beside[:1], alone, rtol=0, atol=1e-4)
    assert not torch.allclose(beside[1], alone[0], atol=1e-2)


def test_the_exported_autoencoder_makes_latents_of_unit_variance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task = autoencoder_task()
    randomise(task.autoencoder)
    monkeypatch.setattr(sumi.train.tasks.autoencoder, "draw", lambda world, rng, _count, size: draw(world, rng, 16, size))
    task.export(tmp_path)
    exported = read_autoencoder(tmp_path / "vae")
    assert replace(exported.config, latent_scale=AUTOENCODER.latent_scale) == AUTOENCODER
    _, images = draw(task.world, rng(4), 64, SIZE)
    with torch.inference_mode():
        latents = exported.encode(images).sample(normal(rng(5), exported.encode(images).mean))
        assert float(latents.square().mean()) == pytest.approx(1, rel=0.1)
        rounded = task.autoencoder.half().float()  # as it is stored
        again = rounded.decode(rounded.encode(images).mode())
        torch.testing.assert_close(exported.decode(exported.encode(images).mode()), again, rtol=1e-3, atol=1e-4)


def test_the_exported_text_encoder_reads_as_the_trained_one(tmp_path: Path) -> None:
    task = clip_task()
    task.export(tmp_path)
    encoder, tokenizer = read_text_encoder(tmp_path / "text_encoder"), Tokenizer.from_folder(tmp_path / "tokenizer")
    assert tokenizer("two red stars") == TOKENIZER("two red stars") and encoder.config == TEXT
    ids = torch.tensor([tokenizer("two red stars")])
    with torch.inference_mode():
        assert torch.equal(encoder(ids).pooled, task.text(ids).pooled)


def test_the_exported_model_draws_what_the_task_draws(tmp_path: Path) -> None:
    task = noise_predictor_task(random=True)
    task.export(tmp_path)
    [picture] = sumi.generate(sumi.load(tmp_path / "model"), prompt="a red star", seed=3)
    with torch.inference_mode():
        [expected] = to_pictures(task.sample(("a red star",), seed=3))
    assert np.abs(np.asarray(picture.image).astype(int) - expected).max() <= 2  # half of the bits are left out


def test_training_the_decoder_alone_leaves_every_latent_as_it_is(tmp_path: Path) -> None:
    start = autoencoder_task().autoencoder
    before = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    task = autoencoder_task(start=start, decoder_only=True)
    train(task, Training(steps=3, warmup=1, precision="float32", workers=1), tmp_path, say=lambda line: None)
    moved = {name.split(".")[0] for name, tensor in task.autoencoder.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"decoder", "post_quant_conv"}
    assert read_autoencoder(tmp_path / "vae").config == start.config


def test_crowds_are_a_share_of_the_autoencoders_batches(rendered: list[Scene]) -> None:
    for share, crowds in ((0.0, 0), (0.4, 3), (1.0, 8)):
        task = autoencoder_task(crowds=share)
        rendered.clear()
        task.loss(0, rng(0))
        assert sum(scene.caption == "" for scene in rendered) == crowds and len(rendered) == 8


def test_equal_captions_are_all_right_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    task = clip_task()
    ids = torch.tensor([TOKENIZER(caption) for caption in ("a red star", "a red star", "a ring", "a cross")])
    same = (ids[:, None] == ids[None]).all(-1)
    monkeypatch.setattr(task, "_batch", lambda *_: (ids, torch.zeros(4, 3, SIZE, SIZE)))
    monkeypatch.setattr(task, "_logits", lambda *_: 50.0 * same)
    loss, figures = task.loss(0, rng(0))
    assert float(loss) == pytest.approx(np.log(2) / 2, rel=1e-4) and figures == {"recall": 1.0}  # two of four cannot be told apart


def with_captions(task: NoisePredictorTask, caption: str) -> float:
    """The loss of step 0 as if every scene had that caption."""
    cached = task._epoch(0)
    task.cache = replace(cached, ids=torch.tensor([TOKENIZER(caption)]).expand(len(cached.ids), -1))
    return float(task.loss(0, rng(0))[0].detach())


def test_a_dropped_caption_is_the_empty_one() -> None:
    kept, dropped = noise_predictor_task(random=True, drop=0.0), noise_predictor_task(random=True, drop=1.0)
    assert with_captions(dropped, "a red star") == with_captions(dropped, "two blue rings") == with_captions(kept, "")
    assert with_captions(kept, "a red star") != with_captions(kept, "two blue rings")


def test_a_text_rate_of_zero_freezes_the_text_encoder() -> None:
    for rate in (0.0, 0.3):
        task = noise_predictor_task(random=True, text_rate=rate)
        assert task.rates == {"text": rate}
        task.loss(0, rng(0))[0].backward()
        assert [parameter.grad is not None for parameter in task.text_encoder.parameters() if parameter.requires_grad] == [True] * (
            len(list(task.text_encoder.parameters())) if rate else 0
        )
        assert all(parameter.grad is None for parameter in task.autoencoder.parameters())


def test_naming_what_is_where_teaches_the_unet() -> None:
    """A fresh UNet's last convolution is zero: denoising alone tells nothing before it what to do."""
    for weight, taught in ((0.0, False), (0.1, True)):
        task = noise_predictor_task(map_weight=weight)
        task.loss(0, rng(0))[0].backward()
        for parameter in (task.unet.conv_in.weight, task.map_head.weight):
            assert parameter.grad is not None and bool(parameter.grad.any()) is taught
        assert task.unet.conv_out.weight.grad is not None and task.unet.conv_out.weight.grad.any()


def test_scenes_rendered_ahead_by_other_processes_are_the_same() -> None:
    alone, ahead = noise_predictor_task(cache=140), noise_predictor_task(cache=140, processes=1)
    for epoch in (0, 1, 1, 3):  # the second was rendered ahead, the last was not
        for ours, theirs in zip(astuple(alone._epoch(epoch)), astuple(ahead._epoch(epoch)), strict=True):
            assert torch.equal(ours, theirs)
    assert not torch.equal(alone._epoch(0).latents, alone._epoch(1).latents)


def test_the_map_is_as_large_as_what_it_is_read_off(monkeypatch: pytest.MonkeyPatch) -> None:
    three = replace(SPEC.unet, block_channels=(8, 8, 16), attention_depth=(0, 0, 1), cross_only=(False,) * 3, heads=2)
    monkeypatch.setattr(sys.modules[__name__], "SPEC", replace(SPEC, unet=three))
    task = noise_predictor_task()
    assert task.held_out.maps.shape[-1] == SIZE // SPEC.factor
    assert torch.isfinite(task.loss(0, rng(0))[0])


def test_the_map_is_of_the_scene() -> None:
    task = noise_predictor_task()
    batch = task.held_out
    cells = 2 * SIZE // SPEC.factor
    assert batch.maps.shape == (256, cells, cells) and batch.maps.max() <= len(task.world.classes)
    scenes, _ = draw(task.world, np.random.default_rng(1), 8, SIZE, "held-out")
    for scene, ids, named in zip(scenes, batch.ids, batch.maps, strict=False):
        assert ids.tolist() == TOKENIZER(scene.caption)
        assert set(named.unique().tolist()) - {0} <= {task.world.classes.index(thing.name) + 1 for thing in scene.things}


def test_the_target_is_v_of_what_the_unet_is_shown() -> None:
    """Salimans and Ho (2022): x_t = sqrt(abar) x0 + sqrt(1 - abar) noise, v = sqrt(abar) noise - sqrt(1 - abar) x0."""
    task = noise_predictor_task()
    latents = task.held_out.latents[:8]
    noise, t = normal(rng(0), latents), torch.tensor([0, 1, 10, 100, 400, 700, 990, 999])
    abar = Schedule(SPEC.schedule).alphas_cumprod[t][:, None, None, None]
    v = abar.sqrt() * noise - (1 - abar).sqrt() * latents
    shown: list[Any] = []

    def answer(_module: nn.Module, inputs: tuple[Any, ...], _output: Tensor) -> Tensor:
        shown.extend(inputs)
        return v

    task.unet.register_forward_hook(answer)
    error, features = task._error(task.held_out[:8], t, noise)
    assert error.shape == (8,) and error.max() < 1e-8
    x, times, context, vector = shown
    torch.testing.assert_close(x, abar.sqrt() * latents + (1 - abar).sqrt() * noise, rtol=1e-4, atol=1e-5)
    assert torch.equal(times, t.float()) and context.shape == (8, 24, 16) and vector.shape == (8, 16)
    assert features.shape == (8, 32, SIZE // SPEC.factor, SIZE // SPEC.factor)

    sigma = task.schedule.sigmas[t]
    denoiser = Denoiser(task.unet, task.schedule, "v")
    torch.testing.assert_close(denoiser.target(latents, noise, sigma), v, rtol=1e-4, atol=1e-5)
    early = slice(0, 6)  # of almost pure noise x0 is what is left of a difference of large numbers
    x0 = denoiser.denoised(v[early], latents[early] + sigma[early, None, None, None] * noise[early], sigma[early])
    torch.testing.assert_close(x0, latents[early], rtol=1e-3, atol=1e-3)


def test_losses_are_weighted_by_what_is_left_to_see() -> None:
    """An error of 1 in every v makes the loss the mean weight, times being one from each of equal parts of the schedule."""
    task, seen = noise_predictor_task(map_weight=0.0), []

    def answer(_module: nn.Module, inputs: tuple[Any, ...], _output: Tensor) -> Tensor:
        seen.append(inputs[1])
        return torch.ones_like(task.held_out.latents[:8])

    task.unet.register_forward_hook(answer)
    task.denoiser.target = lambda x0, noise, sigma: torch.zeros_like(x0)
    loss, _ = task.loss(0, rng(0))
    t = seen[0].long()
    assert (t // 125).tolist() == list(range(8))
    abar = Schedule(SPEC.schedule).alphas_cumprod[t]
    snr = abar / (1 - abar)
    assert float(loss.detach()) == pytest.approx(float(((snr.clamp(max=5) + 1) / (snr + 1)).mean()), rel=1e-3)


def test_a_unet_of_one_level_has_nothing_to_read_a_map_off() -> None:
    one = replace(UNET, block_channels=(16,), attention_depth=(1,), cross_only=(False,))
    with pytest.raises(RecipeError, match="two levels at least"):
        NoisePredictorTask(replace(SPEC, unet=one), Autoencoder(AUTOENCODER), TOKENIZER, fresh_text_encoder(TEXT), vocabulary="shapes")


def test_a_larger_vocabulary_keeps_what_is_known_of_each_word() -> None:
    old = Tokenizer(*word_vocabulary(("a", "star", "tree", "zebra")), length=24)
    new = Tokenizer(*word_vocabulary(("a", "apple", "cat", "star", "tree", "zebra")), length=24)
    torch.manual_seed(0)
    encoder = fresh_text_encoder(replace(TEXT, vocab_size=len(old.vocab), eos_id=old.eos_id, pad_id=old.pad_id))
    extended = extend_vocabulary(encoder, old, new)
    assert (extended.config.vocab_size, extended.config.eos_id) == (len(new.vocab), new.eos_id)
    text = "a zebra star tree"
    assert old(text) != new(text)
    with torch.inference_mode():
        before, after = encoder(torch.tensor([old(text)])), extended(torch.tensor([new(text)]))
        torch.testing.assert_close(after.hidden, before.hidden)
        torch.testing.assert_close(after.pooled, before.pooled)
    rows = extended.text_model.embeddings.token_embedding.weight
    fresh = [new.encode(word)[0] for word in ("apple", "cat")]
    assert float(rows[fresh].detach().std()) == pytest.approx(0.05, rel=0.5) and not torch.equal(rows[fresh[0]], rows[fresh[1]])


def test_a_longer_text_keeps_what_is_known_of_each_position() -> None:
    encoder = fresh_text_encoder(TEXT)
    for length in (20, 28):
        other = Tokenizer(TOKENIZER.vocab, TOKENIZER.merges, length=length)
        extended = extend_vocabulary(encoder, TOKENIZER, other)
        rows, kept = (each.text_model.embeddings.position_embedding.weight[:20] for each in (extended, encoder))
        assert extended.config.length == length and torch.equal(rows, kept)


def test_pictures_and_tensors_are_two_forms_of_one() -> None:
    pictures = rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8)
    images = to_tensor(list(pictures))
    assert images.shape == (3, 3, 4, 6) and images.dtype == torch.float32 and images.abs().max() <= 1
    assert np.array_equal(to_pictures(images), pictures)
    assert np.array_equal(to_pictures(images.bfloat16().float() * 3).max(), 255)
    assert (to_tensor([np.zeros((1, 1, 3), np.uint8)]) == -1).all() and (to_tensor([np.full((1, 1, 3), 255, np.uint8)]) == 1).all()


def test_normal_numbers_are_of_the_generator_alone() -> None:
    like = torch.zeros(40, 50, dtype=torch.bfloat16)
    first = normal(rng(1), like)
    torch.manual_seed(9)
    assert torch.equal(first, normal(rng(1), like)) and not torch.equal(first, normal(rng(2), like))
    assert first.dtype == torch.bfloat16 and first.shape == like.shape
    assert float(first.float().mean()) == pytest.approx(0, abs=0.1) and float(first.float().std()) == pytest.approx(1, abs=0.1)


def test_scenes_are_drawn_with_their_pictures() -> None:
    world = World("shapes")
    scenes, images = draw(world, rng(0), 5, SIZE, "held-out")
    assert images.shape == (5, 3, SIZE, SIZE) and all(map(shows_held_out, scenes))
    assert np.array_equal(to_pictures(images), np.stack([render(scene, SIZE) for scene in scenes]))
    assert draw(world, rng(0), 3, SIZE, "held-out")[0] == scenes[:3]


def test_a_crowd_is_inside_its_picture() -> None:
    world = World("objects")
    for seed in range(20):
        scene = crowd(world, rng(seed))
        assert scene.caption == "" and 5 <= len(scene.things) <= 9
        for thing in scene.things:
            assert thing.size / 2 <= min(thing.x, thing.y, 1 - thing.x, 1 - thing.y) + 1 / 64
        assert render(scene, SIZE).shape == (SIZE, SIZE, 3)


def test_a_sheet_puts_pictures_in_rows_on_white() -> None:
    pictures = [np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)]
    page = sheet(pictures, 2, gap=1)
    assert page.shape == (5, 7, 3)
    expected = np.full((5, 7), 255)
    expected[:2, :3], expected[:2, 4:], expected[3:, :3] = 10, 20, 30
    assert np.array_equal(page, np.repeat(expected[..., None], 3, -1))


def every_context() -> NoisePredictorTask:
    """A task whose pictures are made from whatever there is, random weights and all."""
    classes = len(World("shapes").classes) + 1
    spec = replace(
        SPEC,
        autoencoder=replace(AUTOENCODER, patch_size=2),
        label=LabelConfig(classes, 16),
        map=MapConfig(classes, 2, halvings=1, patch_size=2),
        concat=("mask", "masked_image", "low_res", "map"),
        optional=True,
    )
    wanted = spec.autoencoder.latent_channels + sum(channels(spec).values())
    spec = replace(spec, unet=replace(UNET, in_channels=wanted))
    task = NoisePredictorTask(
        spec,
        Autoencoder(spec.autoencoder),
        TOKENIZER,
        fresh_text_encoder(TEXT),
        vocabulary="shapes",
        batch=10,
        cache=40,
        jobs=dict.fromkeys(JOBS, 1.0),
    )
    for module in (*task.modules.values(), task.autoencoder):
        randomise(module)
    return task


def test_each_job_gives_what_it_is_made_from_and_nothing_else() -> None:
    task = every_context()
    nothing = task._nothing(1)
    of = {"label": ("labels",), "inpaint": ("channels",), "map": ("classes",), "low_res": ("channels",)}
    assert set(task.held_out_jobs) == set(JOBS) - {"text"}
    for job, batch in {"text": task.held_out, **task.held_out_jobs}.items():
        told = {
            name
            for name in ("labels", "channels", "classes")
            if not torch.equal(getattr(batch, name), getattr(nothing, name).expand_as(getattr(batch, name)))
        }
        assert told == set(of.get(job, ())), job
    mask, hidden, small = task.held_out_jobs["inpaint"].channels.split((1, 4, 3), 1)
    assert set(mask.unique().tolist()) == {0.0, 1.0} and hidden.any() and not small.any()
    mask, hidden, small = task.held_out_jobs["low_res"].channels.split((1, 4, 3), 1)
    assert bool((mask == 1).all()) and not hidden.any() and small.any()


def test_every_context_is_learnt() -> None:
    task = every_context()
    loss, _ = task.loss(0, rng(0))
    loss.backward()
    assert task.label is not None and task.rescaler is not None
    for weight in (task.label.embedding.weight, task.rescaler.channel_mapper.weight, task.unet.conv_in.weight):
        assert weight.grad is not None and weight.grad.abs().sum() > 0
    with torch.inference_mode():
        assert set(task.validate()) == {"val", "val_wrong", "val_null", *(f"val_{job}" for job in JOBS if job != "text")}
        assert set(task.pictures()) == set(JOBS) - {"text"}


def test_a_model_of_every_context_draws_what_the_task_draws(tmp_path: Path) -> None:
    """What training tells the network is what a request tells it, by the files in between."""
    task = every_context()
    task.export(tmp_path)
    model = sumi.load(tmp_path / "model")
    assert (model.spec.concat, model.spec.optional, model.spec.label, model.spec.map) == (
        task.spec.concat,
        True,
        task.spec.label,
        task.spec.map,
    )
    for job in ("label", "map", "low_res"):
        batch = task.held_out_jobs[job][:2]
        batch = replace(batch, ids=torch.tensor([TOKENIZER("a red star"), TOKENIZER("a cross")]))
        given = {
            "label": Inputs(labels=batch.labels),
            "map": Inputs(map=batch.classes.long()),
            "low_res": Inputs(low_res=batch.channels[:, 5:8]),
        }[job]
        pictures = list(illustrate(model, ["a red star", "a cross"], seed=3, inputs=given))
        with torch.inference_mode():
            expected = to_pictures(task.made(batch, seed=3))
        ours = np.stack([np.asarray(picture.image) for picture in pictures])
        assert np.abs(ours.astype(int) - expected).max() <= 3, job  # half of the bits are left out


def test_inputs_that_are_new_change_nothing_yet() -> None:
    task = noise_predictor_task(random=True)
    wider = extend_inputs(task.unet, 9)
    x, told, t = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 8, 8), torch.tensor([3, 900])
    context, vector = torch.randn(2, 24, 16), torch.randn(2, 16)
    with torch.inference_mode():
        assert torch.equal(
            wider(torch.cat([x, torch.zeros_like(told)], 1), t, context, vector), wider(torch.cat([x, told], 1), t, context, vector)
        )
        torch.testing.assert_close(wider(torch.cat([x, told], 1), t, context, vector), task.unet(x, t, context, vector))
    assert extend_inputs(task.unet, 4) is task.unet
