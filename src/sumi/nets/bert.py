"""The text transformer of the latent diffusion paper (Rombach et al. 2022, appendix E.2): token ids to vectors.

Every token sees every other, the padding included: there is no mask of any kind. The layout model reads boxes by the same
network. Parameters have the names of diffusers' LDMBertModel.

Legend: B batch, L tokens, D width, N heads.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sumi.config import BertConfig


@dataclass(frozen=True)
class BertFeatures:
    """What the encoder says of a prompt: a vector a token, for cross-attention. It has none for the whole."""

    hidden: Float[Tensor, "B L D"]


class SelfAttention(nn.Module):
    """Attention whose heads together may be narrower or wider than the tokens; only the way out has a bias."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, heads * head_width, bias=False)
        self.k_proj = nn.Linear(width, heads * head_width, bias=False)
        self.v_proj = nn.Linear(width, heads * head_width, bias=False)
        self.out_proj = nn.Linear(heads * head_width, width)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj))
        out: Tensor = self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class Layer(nn.Module):
    """Attention and perceptron, each normalised before and added after."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config.width, config.heads, config.head_width)
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.fc1 = nn.Linear(config.width, 4 * config.width)
        self.fc2 = nn.Linear(4 * config.width, config.width)
        self.final_layer_norm = nn.LayerNorm(config.width)  # the published name; it is the perceptron's

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        out: Tensor = x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        return out


class Transformer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        self.embed_positions = nn.Embedding(config.length, config.width)
        self.layers = nn.ModuleList([Layer(config) for _ in range(config.layers)])
        self.layer_norm = nn.LayerNorm(config.width)

    def forward(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        x: Tensor = self.embed_tokens(ids) + self.embed_positions.weight[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.layer_norm(x)
        return out


class BertEncoder(nn.Module):
    """Token ids to vectors: a transformer that was trained together with the noise predictor."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Transformer(config)
        # Published checkpoints hold this layer and nothing asks it: it is here so that they go in and out whole.
        self.to_logits = nn.Linear(config.width, config.vocab_size)

    def forward(self, ids: Int[Tensor, "B L"]) -> BertFeatures:
        """Features of `ids`, of which there may be fewer than the configured length but not more."""
        return BertFeatures(self.model(ids))
