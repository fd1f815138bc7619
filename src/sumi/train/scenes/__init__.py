"""Captioned pictures that are composed, so that everything about them is known: a small world to learn from.

    world = World("objects")
    scene = world.sample(np.random.default_rng(0))
    scene.caption, render(scene, 64), segmentation(scene, 16)

Needs numpy and pillow alone.
"""

from sumi.train.scenes.captions import caption
from sumi.train.scenes.render import background, class_label, colour_map, group_mask, render, segmentation
from sumi.train.scenes.scene import Group, Scene, Thing
from sumi.train.scenes.vocabulary import VOCABULARIES
from sumi.train.scenes.world import KINDS, World

__all__ = [
    "KINDS",
    "VOCABULARIES",
    "Group",
    "Scene",
    "Thing",
    "World",
    "background",
    "caption",
    "class_label",
    "colour_map",
    "group_mask",
    "render",
    "segmentation",
]
