"""What reads a label or a map."""

import torch

from sumi.config import LabelConfig, MapConfig
from sumi.nets.conditioners import LabelEmbedding, MapRescaler


def test_a_label_is_one_token_of_a_table() -> None:
    table = LabelEmbedding(LabelConfig(classes=5, width=4))
    assert {name: tuple(tensor.shape) for name, tensor in table.state_dict().items()} == {"embedding.weight": (5, 4)}
    tokens = table(torch.tensor([4, 0, 4]))
    assert tokens.shape == (3, 1, 4) and torch.equal(tokens[:, 0], table.embedding.weight[[4, 0, 4]])


def test_a_map_is_averaged_and_its_classes_mixed() -> None:
    """Bilinear interpolation to the half is the mean of two by two, so of a whole map of one class nothing is left but its weights."""
    rescaler = MapRescaler(MapConfig(classes=3, channels=2, halvings=2))
    assert {name: tuple(tensor.shape) for name, tensor in rescaler.state_dict().items()} == {"channel_mapper.weight": (2, 3, 1, 1)}
    weight = rescaler.channel_mapper.weight[:, :, 0, 0]
    one_hot = torch.zeros(1, 3, 8, 12)
    one_hot[:, 2, :, :4], one_hot[:, 0, :, 6:], one_hot[:, 1, :, 4:6] = 1, 1, 1
    found = rescaler(one_hot)
    assert found.shape == (1, 2, 2, 3)
    torch.testing.assert_close(found[0, :, 0], torch.stack([weight[:, 2], (weight[:, 0] + weight[:, 1]) / 2, weight[:, 0]], 1))


def test_the_latent_diffusion_papers_map() -> None:
    with torch.device("meta"):
        rescaler = MapRescaler(MapConfig())
        assert rescaler(torch.zeros(1, 182, 256, 256)).shape == (1, 3, 64, 64)
    assert sum(parameter.numel() for parameter in rescaler.parameters()) == 546
