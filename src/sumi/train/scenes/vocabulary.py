"""The words and colours of the scenes: what can be in a picture, and what it is called.

Three vocabularies, each containing the one before: `shapes` (plain shapes on plain backgrounds), `objects` (+ glyphs, gradients,
landscapes) and `world` (+ more glyphs, textures).
The order of every table is part of the format: class, colour and background ids are positions in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

RGB = tuple[int, int, int]

VOCABULARIES = ("shapes", "objects", "world")

SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring", "crescent", "hexagon")

COLOURS: dict[str, RGB] = {
    "red": (220, 35, 35),
    "orange": (245, 140, 30),
    "yellow": (252, 215, 40),
    "green": (40, 165, 65),
    "blue": (45, 95, 225),
    "purple": (140, 55, 190),
    "pink": (250, 140, 190),
    "white": (252, 252, 252),
}


def _table(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


OBJECTS = _table(
    """
cat 🐱  dog 🐶  lion 🦁  tiger 🐯  panda 🐼  bear 🐻  fox 🦊  rabbit 🐰  frog 🐸  pig 🐷  cow 🐮  monkey 🐵  penguin 🐧  owl 🦉
fish 🐟  whale 🐳  octopus 🐙  turtle 🐢  snail 🐌  butterfly 🦋  bee 🐝  elephant 🐘  crab 🦀  apple 🍎  banana 🍌  lemon 🍋
watermelon 🍉  strawberry 🍓  cherries 🍒  pineapple 🍍  carrot 🥕  mushroom 🍄  pizza 🍕  burger 🍔  cake 🎂  donut 🍩
tree 🌳  cactus 🌵  sunflower 🌻  tulip 🌷  sun 🌞  cloud ☁  rainbow 🌈  fire 🔥  snowman ⛄  house 🏠  car 🚗  bus 🚌
rocket 🚀  airplane ✈  boat ⛵  balloon 🎈  gift 🎁  umbrella ☂  football ⚽  basketball 🏀  guitar 🎸  clock ⏰  book 📕
crown 👑  bell 🔔  robot 🤖  ghost 👻  skull 💀
"""
)
"""Name and emoji of the glyphs of `objects`; the atlas holds OBJECTS then WORLD, in this order."""

WORLD = _table(
    """
hat 🎩  key 🔑  bicycle 🚲  cookie 🍪  chick 🐤  pumpkin 🎃  drum 🥁  shirt 👕  mouse 🐭  hamster 🐹  koala 🐨  horse 🐴
unicorn 🦄  chicken 🐔  duck 🦆  eagle 🦅  bat 🦇  wolf 🐺  zebra 🦓  giraffe 🦒  camel 🐫  sheep 🐑  dragon 🐉  dinosaur 🦕
snake 🐍  crocodile 🐊  shrimp 🦐  lobster 🦞  shark 🦈  dolphin 🐬  ladybug 🐞  spider 🕷  caterpillar 🐛  skunk 🦨
raccoon 🦝  squirrel 🐿  parrot 🦜  peacock 🦚  swan 🦢  flamingo 🦩  llama 🦙  gorilla 🦍  mammoth 🦣  seal 🦭  leopard 🐆
shell 🐚  rooster 🐓  palm 🌴  pine 🌲  rose 🌹  blossom 🌸  daisy 🌼  clover 🍀  leaf 🍁  tangerine 🍊  grapes 🍇  pear 🍐
peach 🍑  kiwi 🥝  tomato 🍅  avocado 🥑  eggplant 🍆  pepper 🌶  kangaroo 🦘  onion 🧅  peanut 🥜  loaf 🍞  croissant 🥐
pretzel 🥨  pancakes 🥞  fries 🍟  hotdog 🌭  sandwich 🥪  taco 🌮  egg 🥚  lollipop 🍭  candy 🍬  chocolate 🍫  coffee ☕
cupcake 🧁  cheese 🧀  teapot 🫖  blueberries 🫐  truck 🚚  taxi 🚕  tractor 🚜  ambulance 🚑  train 🚂  helicopter 🚁  ship 🚢
anchor ⚓  scooter 🛵  tent ⛺  castle 🏰  factory 🏭  mountain ⛰  volcano 🌋  fountain ⛲  planet 🪐  globe 🌍  moon 🌕
snowflake ❄  tornado 🌪  wave 🌊  ufo 🛸  lifebuoy 🛟  wheel 🛞  firetruck 🚒  baseball ⚾  volleyball 🏐  target 🎯  kite 🪁
puzzle 🧩  teddy 🧸  dice 🎲  trophy 🏆  medal 🏅  gloves 🧤  scarf 🧣  boot 👢  shoe 👞  sneaker 👟  socks 🧦  jeans 👖
dress 👗  backpack 🎒  glasses 👓  helmet 🪖  lipstick 💄  gem 💎  suitcase 🧳  racket 🎾  joystick 🕹  trumpet 🎺
saxophone 🎷  piano 🎹  microphone 🎤  radio 📻  headphones 🎧  phone 📱  laptop 💻  printer 🖨  television 📺  camera 📷
lightbulb 💡  candle 🕯  lantern 🏮  battery 🔋  magnet 🧲  microscope 🔬  telescope 🔭  compass 🧭  hourglass ⌛  watch ⌚
hammer 🔨  axe 🪓  spoon 🥄  bucket 🪣  broom 🧹  basket 🧺  bed 🛏  chair 🪑  sofa 🛋  door 🚪  window 🪟  log 🪵  envelope ✉
pencil ✏  paintbrush 🖌  palette 🎨  scissors ✂  pushpin 📌  ruler 📏  lock 🔒  notebook 📓  moneybag 💰  coin 🪙  flag 🚩
bomb 💣  mailbox 📫  parcel 📦  megaphone 📣  santa 🎅  alien 👽  clown 🤡  baby 👶  smiley 😀  tooth 🦷  brain 🧠  bone 🦴
eye 👁  hand ✋  stoplight 🚦  jellyfish 🪼  goose 🪿  lotus 🪷  wrench 🔧  toolbox 🧰  mirror 🪞  toothbrush 🪥
"""
)
"""Name and emoji of the glyphs that `world` adds."""

CLASSES = (*SHAPES, *OBJECTS, *WORLD)
CLASS_COUNT = {"shapes": len(SHAPES), "objects": len(SHAPES) + len(OBJECTS), "world": len(CLASSES)}

TINTABLE = _words(
    """
    apple balloon bell boat book butterfly car clock crab fish guitar mushroom tulip umbrella
    backpack boot bucket dinosaur door dragon dress flag helicopter key lock magnet mailbox pushpin rose scarf scooter
    sneaker snake sofa suitcase teapot toolbox
    """
)
"""Glyphs of mainly one hue, which take colour words."""

SYNONYMS = {
    "airplane": "plane",
    "bicycle": "bike",
    "boat": "sailboat",
    "burger": "hamburger",
    "donut": "doughnut",
    "gift": "present",
    "phone": "smartphone",
    "rabbit": "bunny",
    "sofa": "couch",
    "television": "tv",
}

PLURAL_ONLY = _words("cherries blueberries fries glasses gloves grapes headphones jeans pancakes scissors socks")
"""Nouns that are plural already: `some cherries`, and never counted."""

_IRREGULAR = {
    "cactus": "cacti",
    "fish": "fish",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "mouse": "mice",
    "sheep": "sheep",
    "shrimp": "shrimp",
    "dice": "dice",
    "goose": "geese",
    "tooth": "teeth",
    "wolf": "wolves",
}


def plural(noun: str) -> str:
    """The plural of a noun of this vocabulary."""
    if noun in PLURAL_ONLY:
        return noun
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith("y") and noun[-2] not in "aeo":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("ch", "sh", "s", "x")) else "s")


def article(phrase: str) -> str:
    """`a` or `an`, by the sound that the phrase begins with."""
    if phrase.startswith(("unicorn", "ufo")):
        return "a"
    return "an" if phrase[0] in "aeiou" or phrase.startswith("hourglass") else "a"


@dataclass(frozen=True)
class Background:
    """What is behind the things: its colours from top to bottom, how a caption says it, and the colour words that would be lost on it."""

    kind: str  # plain, gradient, landscape or texture
    painter: str
    colours: tuple[RGB, ...]
    phrases: tuple[str, ...]
    avoid: frozenset[str] = field(default=frozenset())


PLAIN: dict[str, RGB] = {
    "white": (250, 250, 250),
    "black": (20, 20, 20),
    "gray": (140, 140, 140),
    "light blue": (160, 210, 245),
    "yellow": (250, 222, 90),
    "blue": (60, 110, 220),
    "green": (70, 175, 90),
    "pink": (250, 175, 205),
}

_AVOID = {
    "white": "white",
    "light blue": "white",
    "yellow": "yellow",
    "blue": "blue purple",
    "green": "green",
    "pink": "pink",
    "red": "red",
    "orange": "orange",
    "purple": "purple blue",
}
"""Colour words that cannot be told from a ground of that colour."""

_TEXTURE: dict[str, RGB] = {
    "red": (214, 70, 70),
    "orange": (245, 160, 70),
    "yellow": (250, 222, 90),
    "green": (70, 175, 90),
    "blue": (60, 110, 220),
    "purple": (150, 90, 200),
    "pink": (250, 175, 205),
    "gray": (140, 140, 140),
}

_GRADIENTS = {
    "white to blue": "",
    "yellow to red": "orange",
    "pink to purple": "",
    "green to yellow": "",
    "black to blue": "",
    "light blue to pink": "",
}
"""From top to bottom, with the colour words that are lost halfway."""


def _landscape(name: str, phrases: str, avoid: str, *colours: RGB) -> Background:
    return Background("landscape", name, colours, tuple(phrases.split(" | ")), _words(avoid))


_LANDSCAPES = {
    "night sky": _landscape("night sky", "in the night sky | at night", "blue purple", (14, 18, 52), (48, 48, 112)),
    "grass": _landscape("grass", "on the grass | in a meadow", "green white", (150, 210, 250), (95, 180, 70)),
    "beach": _landscape("beach", "at the beach | on the sand", "yellow white", (150, 214, 250), (45, 140, 200), (240, 215, 150)),
    "sunset": _landscape("sunset", "at sunset | in a sunset sky", "orange purple", (110, 50, 130), (252, 140, 70), (60, 32, 70)),
    "snow": _landscape("snow", "in the snow | in winter", "white", (165, 190, 222), (246, 249, 255)),
    "sea": _landscape("sea", "in the sea | under water", "blue", (70, 180, 215), (20, 70, 150)),
}


def _plain(name: str) -> tuple[str, ...]:
    return (f"on {article(name)} {name} background", f"on {name}", f"with {article(name)} {name} background")


def _clashing(*names: str) -> frozenset[str]:
    return frozenset(word for name in names for word in _AVOID.get(name, "").split())


def _gradient(name: str) -> Background:
    top, bottom = name.split(" to ")
    rgb = PLAIN | _TEXTURE
    avoid = _clashing(top, bottom, *_GRADIENTS[name].split())
    return Background("gradient", "gradient", (rgb[top], rgb[bottom]), (f"on a {name} gradient",), avoid)


def _texture(pattern: str, name: str) -> Background:
    base = _TEXTURE[name]
    light = (base[0] + 255) // 2, (base[1] + 255) // 2, (base[2] + 255) // 2
    return Background("texture", pattern, (base, light), _plain(f"{pattern} {name}")[::2], _clashing(name, "white"))


BACKGROUNDS: dict[str, Background] = {
    **{name: Background("plain", "plain", (rgb,), _plain(name), _clashing(name)) for name, rgb in PLAIN.items()},
    **{name: _gradient(name) for name in _GRADIENTS},
    **_LANDSCAPES,
    **{f"{pattern} {name}": _texture(pattern, name) for pattern in ("striped", "dotted", "checked") for name in _TEXTURE},
}
BACKGROUND_COUNT = {
    "shapes": len(PLAIN),
    "objects": len(PLAIN) + len(_GRADIENTS) + len(_LANDSCAPES),
    "world": len(BACKGROUNDS),
}
