"""CLIP (Radford et al. 2021): words and pictures to vectors.

Legend: B batch, L tokens, C H W image channels, height and width, D width, P projection width, N heads.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sumi.config import Activation, TextConfig, VisionConfig


@dataclass(frozen=True)
class TextFeatures:
    """What a text encoder says of a prompt: a vector a token, for cross-attention, and one for the whole."""

    hidden: Float[Tensor, "B L D"]
    pooled: Float[Tensor, "B P"]


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B L D"], causal: bool) -> Float[Tensor, "B L D"]:
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)
        out: Tensor = self.out_proj(h)
        return out


class MLP(nn.Module):
    def __init__(self, width: int, inner: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        h = self.fc1(x)
        # OpenAI's checkpoints were trained with the sigmoid approximation of GELU, OpenCLIP's with GELU itself.
        h = h * torch.sigmoid(1.702 * h) if self.activation == "quick_gelu" else F.gelu(h)
        out: Tensor = self.fc2(h)
        return out


class Layer(nn.Module):
    """Attention and perceptron, each normalised before and added after."""

    def __init__(self, width: int, heads: int, inner: int, activation: Activation) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads)
        self.layer_norm1 = nn.LayerNorm(width)
        self.mlp = MLP(width, inner, activation)
        self.layer_norm2 = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "B L D"], causal: bool) -> Float[Tensor, "B L D"]:
        x = x + self.self_attn(self.layer_norm1(x), causal)
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class Layers(nn.Module):
    def __init__(self, count: int, width: int, heads: int, inner: int, activation: Activation) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(width, heads, inner, activation) for _ in range(count)])

    def forward(self, x: Float[Tensor, "B L D"], causal: bool) -> list[Float[Tensor, "B L D"]]:
        """The input and what each layer made of it: `count` + 1 tensors."""
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1], causal))
        return states


class TextEmbeddings(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.length, config.width)

    def forward(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        out: Tensor = self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]
        return out


class TextTransformer(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.encoder = Layers(config.layers, config.width, config.heads, config.mlp_width, config.activation)
        self.final_layer_norm = nn.LayerNorm(config.width)


class TextEncoder(nn.Module):
    """Token ids to vectors: a causal transformer whose state at the end-of-text token stands for the whole."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = TextTransformer(config)
        self.text_projection = None if config.projection_width is None else nn.Linear(config.width, config.projection_width, bias=False)

    def forward(self, ids: Int[Tensor, "B L"], layer: int | None = None) -> TextFeatures:
        """Features of `ids`, which hold the end-of-text id at least once a row.

        `layer` overrides the configuration's output layer (-1 the last, -2 the one before: "clip skip" 2). The pooled
        vector is always the last layer's, normalised, at the first end-of-text token, projected if there is a projection.
        """
        model, config = self.text_model, self.config
        states = model.encoder(model.embeddings(ids), causal=True)
        last = model.final_layer_norm(states[-1])
        chosen = config.output_layer if layer is None else layer
        if not -len(states) <= chosen < len(states):
            raise ValueError(f"layer {chosen} of a text encoder that has {len(states) - 1} layers")
        hidden = states[chosen]
        if config.final_norm:
            hidden = model.final_layer_norm(hidden)
        ends = (ids == config.eos_id).int().argmax(dim=1)
        pooled = last[torch.arange(len(ids), device=ids.device), ends]
        if self.text_projection is not None:
            pooled = self.text_projection(pooled)
        return TextFeatures(hidden, pooled)


class VisionEmbeddings(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(nn.init.normal_(torch.empty(config.width), std=config.width**-0.5))
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size, bias=False)
        self.position_embedding = nn.Embedding((config.image_size // config.patch_size) ** 2 + 1, config.width)

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B L D"]:
        patches = self.patch_embedding(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(image), 1, -1), patches], dim=1)
        return tokens + self.position_embedding.weight


class VisionTransformer(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.width)  # the published name is misspelt
        self.encoder = Layers(config.layers, config.width, config.heads, config.mlp_width, config.activation)
        self.post_layernorm = nn.LayerNorm(config.width)


class VisionEncoder(nn.Module):
    """Pictures to vectors: a vision transformer (Dosovitskiy et al. 2021) read at its class token."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = VisionTransformer(config)
        self.visual_projection = nn.Linear(config.width, config.projection_width, bias=False)

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B P"]:
        """Projected features of pictures normalised as the checkpoint expects, of exactly the configured size."""
        model = self.vision_model
        states = model.encoder(model.pre_layrnorm(model.embeddings(image)), causal=False)
        out: Tensor = self.visual_projection(model.post_layernorm(states[-1][:, 0]))
        return out
