"""Guidance against diffusers': the formulas, and whole runs of its pipelines on tiny random networks."""

import math
from functools import cache, partial

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPAGPipeline, StableDiffusionSAGPipeline, UNet2DConditionModel
from diffusers.guiders import AdaptiveProjectedGuidance, ClassifierFreeGuidance, PerturbedAttentionGuidance, SkipLayerGuidance
from diffusers.hooks import HookRegistry, LayerSkipConfig
from diffusers.hooks.layer_skip import apply_layer_skip

from sumi.config import ScheduleConfig, UNetConfig
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.denoiser import Denoiser
from sumi.diffusion.guidance import Guidance, guide
from sumi.diffusion.samplers.step import finish, start
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.diffusion.schedule import Schedule
from sumi.diffusion.thresholds import clamped
from sumi.models.weakened import attending, perturbed, skipped
from sumi.nets.unet import UNet
from support import assert_agree, randomise

# diffusers hands NumPy's numbers to PyTorch.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SCHEDULE = Schedule(ScheduleConfig())
STEPS = 4
HEADS = 4
SIZE = (16, 24)


@cache
def pair():
    theirs = UNet2DConditionModel(
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=12,
        attention_head_dim=HEADS,
        norm_num_groups=8,
        sample_size=64,
    )
    randomise(theirs).requires_grad_(False)
    # Sharp enough that cells look at some others more than at the rest.
    theirs.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight.mul_(20)
    config = UNetConfig(
        block_channels=(16, 32),
        layers_per_block=1,
        attention_depth=(1, 0),
        cross_only=(False, False),
        heads=HEADS,
        context_width=12,
        norm_groups=8,
    )
    ours = UNet(config).eval().requires_grad_(False)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def contexts():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 7, 12, generator=generator), torch.randn(2, 7, 12, generator=generator)


def noise():
    return torch.randn(2, 4, *SIZE, generator=torch.Generator().manual_seed(4))


def scheduler():
    made = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    made.alphas_cumprod = SCHEDULE.alphas_cumprod
    made.final_alpha_cumprod = SCHEDULE.alphas_cumprod[0]
    return made


def parts(kind):
    """A pipeline of nothing but the network: words and pictures are not in question."""
    _, unet = pair()
    made = kind(
        vae=None,
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def run_theirs(kind, **options):
    given, away = contexts()
    out = parts(kind)(
        height=SIZE[0] * 8,
        width=SIZE[1] * 8,
        num_inference_steps=STEPS,
        latents=noise(),
        prompt_embeds=given,
        negative_prompt_embeds=away,
        output_type="latent",
        **options,
    )
    return out.images


def run_ours(guidance):
    given, away = (Conditioning(context) for context in contexts())
    unet, _ = pair()

    def denoiser(network):
        return Denoiser(network, SCHEDULE, "eps")

    times = scheduler()
    times.set_timesteps(STEPS)
    sigmas = torch.cat([SCHEDULE.sigmas[times.timesteps], SCHEDULE.sigmas[:1]])
    denoise = guide(
        denoiser(unet),
        [(1.0, given)],
        away,
        guidance,
        sigmas,
        perturbed=denoiser(perturbed(unet)),
        skipped=denoiser(skipped(unet)),
        attention=lambda see: denoiser(attending(unet, see)),
    )
    *_, step = SAMPLERS["ddim"].function(denoise, start(noise(), sigmas[0]), sigmas, lambda step, draw=0: noise())
    return finish(step.x, step.sigma)


@pytest.mark.parametrize(("scale", "rescale"), [(5.0, 0.0), (5.0, 0.7), (1.0, 0.0)])
def test_a_run_of_perturbed_attention_guidance(scale, rescale):
    theirs = run_theirs(StableDiffusionPAGPipeline, guidance_scale=scale, pag_scale=3.0, guidance_rescale=rescale)
    assert_agree(run_ours(Guidance(scale, pag=3.0, rescale=rescale)), theirs, 1e-4)
    assert (run_ours(Guidance(scale, rescale=rescale)) - theirs).abs().max() > 0.01


@pytest.mark.parametrize("scale", [5.0, 1.0])
def test_a_run_of_self_attention_guidance(scale):
    theirs = run_theirs(StableDiffusionSAGPipeline, guidance_scale=scale, sag_scale=0.9)
    assert_agree(run_ours(Guidance(scale, sag=0.9)), theirs, 1e-4)
    assert (run_ours(Guidance(scale)) - theirs).abs().max() > 0.01


@pytest.mark.parametrize(
    ("weaken", "settings"),
    [(perturbed, {"skip_attention": False, "skip_attention_scores": True, "skip_ff": False}), (skipped, {})],
)
@pytest.mark.parametrize("block", ["mid_block.attentions.0", "down_blocks.0.attentions.0", "up_blocks.1.attentions.1"])
def test_a_weakened_network_is_that_of_their_layer_skip_config(weaken, settings, block):
    ours, theirs = pair()
    given, _ = contexts()
    t = torch.tensor([10, 700])
    plain = theirs(noise(), t, given).sample
    apply_layer_skip(theirs, LayerSkipConfig([0], fqn=f"{block}.transformer_blocks", **settings))
    try:
        expected = theirs(noise(), t, given).sample
    finally:
        HookRegistry.check_if_exists_or_initialize(theirs).remove_hook("layer_skip_hook", recurse=True)
    name = block.replace("_blocks", "").replace("_block.attentions.0", "")
    assert_agree(weaken(ours, [name])(noise(), t, given), expected)
    assert (expected - plain).abs().max() > 1e-3
    assert torch.equal(theirs(noise(), t, given).sample, plain)


def outputs(count):
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(2, 4, 6, 5, generator=generator) for _ in range(count)]


def fixed(given, away, weak, guidance, calls=1):
    """Guidance of networks that give x0 at once, whatever they are given: `given` and `away` by the context, 1 or 0."""
    count = iter(range(2 * calls))

    def network(x, t, context, vector):
        return torch.cat([away[next(count) // 2], given[next(count) // 2]])

    denoiser = Denoiser(network, SCHEDULE, "x0")
    worse = Denoiser(lambda x, t, context, vector: weak, SCHEDULE, "x0")
    one, zero = Conditioning(torch.ones(2, 1, 1)), Conditioning(torch.zeros(2, 1, 1))
    sigmas = SCHEDULE.sigmas[[500, 100]]
    denoise = guide(denoiser, [(1.0, one)], zero, guidance, sigmas, perturbed=worse, skipped=worse)
    return [denoise(torch.zeros_like(weak), sigmas[0]) for _ in range(calls)]


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_formulas_are_those_of_their_guiders(rescale):
    given, away, weak = outputs(3)
    (ours,) = fixed([given], [away], weak, Guidance(7.5, rescale=rescale))
    assert_agree(ours, ClassifierFreeGuidance(7.5, guidance_rescale=rescale).forward(given, away).pred)
    layers = {"guidance_rescale": rescale}
    perturb = PerturbedAttentionGuidance(7.5, 2.8, perturbed_guidance_layers=[0], **layers)
    (ours,) = fixed([given], [away], weak, Guidance(7.5, rescale=rescale, pag=2.8))
    assert_agree(ours, enabled(perturb).forward(given, away, weak).pred)
    skip = SkipLayerGuidance(7.5, 2.8, skip_layer_guidance_layers=[0], **layers)
    (ours,) = fixed([given], [away], weak, Guidance(7.5, rescale=rescale, skip=2.8))
    assert_agree(ours, enabled(skip).forward(given, away, weak).pred)


def enabled(guider):
    """At a step in the range where it is on."""
    guider.set_state(step=1, num_inference_steps=10, timestep=torch.tensor(500))
    return guider


@pytest.mark.parametrize(("eta", "norm", "momentum"), [(0.0, 15.0, -0.5), (0.3, math.inf, -0.75), (1.0, 5.0, 0.0)])
def test_adaptive_projected_guidance_is_theirs_as_the_paper_has_it(eta, norm, momentum):
    """Their original formulation, D_c + (scale - 1) * update; by default they put the update at D_u, which is another guidance."""
    values = outputs(7)
    given, away, weak = values[:3], values[3:6], values[6]
    guider = AdaptiveProjectedGuidance(
        6.5,
        adaptive_projected_guidance_momentum=momentum,
        adaptive_projected_guidance_rescale=norm,
        eta=eta,
        use_original_formulation=True,
    )
    guider.set_state(step=0, num_inference_steps=3, timestep=torch.tensor(500))
    guider.prepare_inputs({"latents": (given[0], away[0])})  # which makes the memory of its updates
    guidance = Guidance(7.5, "apg", apg_eta=eta, apg_norm=norm, apg_momentum=momentum)
    for i, ours in enumerate(fixed(given, away, weak, guidance, calls=3)):
        assert_agree(ours, guider.forward(given[i], away[i]).pred)


@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.995])
def test_imagens_threshold_is_their_threshold_sample(ratio):
    made = partial(DDIMScheduler, thresholding=True, dynamic_thresholding_ratio=ratio, sample_max_value=math.inf)()
    for x0 in (3 * outputs(1)[0], 0.1 * outputs(1)[0]):
        assert_agree(clamped(x0, ratio), made._threshold_sample(x0), 1e-6)
