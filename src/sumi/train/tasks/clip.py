"""Train CLIP: a text encoder and an image encoder that agree on which caption is which picture's."""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sumi.config import TextConfig, VisionConfig
from sumi.nets.clip import VisionEncoder
from sumi.store.folder import write_text_encoder
from sumi.text.bpe import Tokenizer
from sumi.train.data import draw
from sumi.train.scenes import World
from sumi.train.tasks.noise_predictor import fresh_text_encoder


class Temperature(nn.Module):
    """The learned sharpness of the contrast, at most 100 (Radford et al. 2021, section 2.5)."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self) -> Tensor:
        return self.logit_scale.float().exp().clamp(max=100)


class ClipTask:
    """Contrast the captions and pictures of a batch (Radford et al. 2021, figure 3).

    Captions of a batch may be equal; then each of the equal captions is a right answer.
    """

    def __init__(self, text: TextConfig, vision: VisionConfig, tokenizer: Tokenizer, *, vocabulary: str, batch: int = 128) -> None:
        self.world, self.tokenizer, self.batch, self.size = World(vocabulary), tokenizer, batch, vision.image_size
        self.text, self.vision, self.temperature = fresh_text_encoder(text), VisionEncoder(vision), Temperature()
        self.modules: dict[str, nn.Module] = {"text": self.text, "vision": self.vision, "temperature": self.temperature}
        self.rates: dict[str, float] = {}
        self.held_out = self._batch(np.random.default_rng(1), 256, "held-out")

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        ids, image = self._batch(rng, self.batch, "train")
        logits = self._logits(ids, image)
        same = (ids[:, None] == ids[None]).all(-1).float()
        answers = same / same.sum(1, keepdim=True)
        loss = (F.cross_entropy(logits, answers) + F.cross_entropy(logits.t(), answers)) / 2
        right = same.gather(1, logits.argmax(1, keepdim=True)).mean()
        return loss, {"recall": float(right)}

    def validate(self) -> dict[str, float]:
        """Share of 256 held-out pictures whose own caption is the nearest, and of captions whose own picture is."""
        ids, image = (part.to(self._weight.device) for part in self.held_out)
        logits = self._logits(ids, image)
        same = (ids[:, None] == ids[None]).all(-1).float()
        return {
            "picture_to_text": float(same.gather(1, logits.t().argmax(1, keepdim=True)).mean()),
            "text_to_picture": float(same.gather(1, logits.argmax(1, keepdim=True)).mean()),
        }

    def pictures(self) -> dict[str, np.ndarray]:
        return {}

    def export(self, folder: Path) -> None:
        """Write the text encoder and its tokenizer; the image encoder has done its work."""
        write_text_encoder(folder / "text_encoder", self.text.config, self.text.state_dict())
        self.tokenizer.save(folder / "tokenizer")

    def _logits(self, ids: Tensor, image: Tensor) -> Tensor:
        """Similarity of each caption (rows) and each picture (columns), sharpened."""
        words = F.normalize(self.text(ids).pooled.float(), dim=-1)
        pictures = F.normalize(self.vision(image.to(self._weight.dtype)).float(), dim=-1)
        logits: Tensor = self.temperature() * words @ pictures.t()
        return logits

    def _batch(self, rng: np.random.Generator, count: int, split: str) -> tuple[Tensor, Tensor]:
        scenes, pictures = draw(self.world, rng, count, self.size, split)
        ids = torch.tensor([self.tokenizer(scene.caption) for scene in scenes])
        return ids.to(self._weight.device), pictures.to(self._weight.device)

    @property
    def _weight(self) -> Tensor:
        return self.vision.visual_projection.weight
