"""The words of the little world: who lives in it, where, with what. Lists alone, no rules."""

from __future__ import annotations

from typing import NamedTuple

from recipe.corpus.grammar import row


class Setting(NamedTuple):
    """Where a story plays: the answer to "where did she live?", and spots to look in."""

    phrase: str
    spots: tuple[str, ...]


SETTINGS = {
    "forest": Setting(
        "in a green forest",
        (
            "under the old oak",
            "by the little stream",
            "in a hollow log",
            "behind the berry bush",
            "near the mossy rock",
            "in the tall ferns",
        ),
    ),
    "farm": Setting(
        "on a quiet farm",
        (
            "behind the barn",
            "in the hay",
            "by the duck pond",
            "under the apple tree",
            "next to the gate",
            "in the old cart",
        ),
    ),
    "sea": Setting(
        "in a village by the sea",
        (
            "on the warm sand",
            "under the pier",
            "behind the big boat",
            "in a rock pool",
            "by the lighthouse",
            "among the nets",
        ),
    ),
    "town": Setting(
        "in a busy little town",
        (
            "in the park",
            "behind the bakery",
            "under the bridge",
            "by the fountain",
            "at the market",
            "on the library steps",
        ),
    ),
    "hill": Setting(
        "on a windy hill",
        (
            "at the top of the hill",
            "behind the stone wall",
            "in the old windmill",
            "by the well",
            "under the lone pine",
            "in the tall grass",
        ),
    ),
    "castle": Setting(
        "in an old castle",
        (
            "in the tall tower",
            "under the long table",
            "in the rose garden",
            "behind the throne",
            "by the moat",
            "in the warm kitchen",
        ),
    ),
    "garden": Setting(
        "in a sunny garden",
        (
            "under the rose bush",
            "in a flower pot",
            "behind the shed",
            "by the fish pond",
            "on the swing",
            "among the beans",
        ),
    ),
    "lake": Setting(
        "beside a blue lake",
        (
            "in the reeds",
            "on the flat stone",
            "under the willow",
            "behind the boat house",
            "on the small island",
            "by the waterfall",
        ),
    ),
    "snow": Setting(
        "in the snowy north",
        (
            "behind the snow hill",
            "on the frozen pond",
            "in the ice cave",
            "under the white fir",
            "by the sled",
            "in the snow hut",
        ),
    ),
    "jungle": Setting(
        "in a warm jungle",
        (
            "under the big leaf",
            "by the muddy river",
            "behind the fig tree",
            "in the deep cave",
            "on the rope bridge",
            "among the vines",
        ),
    ),
}

WILD = ("forest", "hill", "garden", "lake")
TAME = ("farm", "town", "garden", "hill")
FOLK = ("farm", "sea", "town", "hill", "lake")
ROYAL = ("castle", "hill", "forest")

# Who may be in a story, and where they live.
KINDS: dict[str, tuple[str, ...]] = {
    "fox": WILD,
    "rabbit": WILD,
    "mouse": ("farm", "town", "castle", "garden"),
    "bear": ("forest", "hill", "snow"),
    "owl": ("forest", "farm", "castle"),
    "hedgehog": ("forest", "garden", "farm"),
    "squirrel": ("forest", "garden", "town"),
    "frog": ("lake", "garden", "jungle"),
    "duck": ("lake", "farm", "town"),
    "goose": ("lake", "farm"),
    "cat": ("farm", "town", "garden", "castle", "sea"),
    "dog": ("farm", "town", "hill", "sea"),
    "puppy": ("farm", "town", "garden"),
    "kitten": ("farm", "town", "garden"),
    "pig": ("farm", "hill"),
    "goat": ("farm", "hill"),
    "sheep": ("farm", "hill"),
    "lamb": ("farm", "hill"),
    "horse": ("farm", "hill", "castle"),
    "pony": ("farm", "hill", "town"),
    "donkey": ("farm", "hill", "sea"),
    "cow": ("farm", "hill"),
    "hen": ("farm", "garden"),
    "badger": WILD,
    "deer": ("forest", "hill", "lake"),
    "wolf": ("forest", "hill", "snow"),
    "beaver": ("lake", "forest"),
    "otter": ("lake", "sea"),
    "turtle": ("sea", "lake", "garden"),
    "crab": ("sea",),
    "seal": ("sea", "snow"),
    "penguin": ("snow",),
    "raven": ("castle", "hill", "forest"),
    "robin": ("garden", "forest", "snow"),
    "snail": ("garden", "forest"),
    "bee": ("garden", "hill", "farm"),
    "ant": ("garden", "forest", "jungle"),
    "monkey": ("jungle",),
    "parrot": ("jungle", "sea"),
    "tiger": ("jungle",),
    "lion": ("jungle", "hill"),
    "elephant": ("jungle",),
    "mole": ("garden", "farm", "hill"),
    "bat": ("castle", "forest", "jungle"),
    "girl": FOLK,
    "boy": FOLK,
    "farmer": ("farm",),
    "baker": ("town", "sea"),
    "sailor": ("sea",),
    "king": ("castle",),
    "queen": ("castle",),
    "princess": ROYAL,
    "prince": ROYAL,
    "knight": ROYAL,
    "wizard": ROYAL,
    "witch": ("forest", "hill"),
    "dragon": ("castle", "hill", "snow"),
    "giant": ("hill", "snow", "forest"),
    "fairy": ("garden", "forest", "lake"),
    "robot": ("town", "farm", "sea"),
}
HE = {"boy", "king", "prince", "wizard"}
SHE = {"girl", "queen", "princess", "witch", "hen", "cow", "fairy"}

HE_NAMES = row(
    "Tom Ben Max Sam Leo Finn Oscar Hugo Jack Otto Felix Theo Noah Milo Anton Paul Karl Emil Oliver"
    " Peter Simon Rufus Bruno Jasper Toby Henry Arthur Walter Ivan Marco"
)
SHE_NAMES = row(
    "Anna Mia Lily Ella Rosa Nora Ida Clara Zoe Lucy Emma Ruby Olive Hazel Ivy Maya Greta Frida"
    " Tess Nina Vera Molly Daisy Poppy Wilma Alma Sara Luna Pia Edith"
)

TRAITS = row("little young small kind clever curious shy brave merry quiet cheerful gentle")
COLORS = row("red blue green yellow white black brown pink orange purple gray golden")

THINGS = row(
    "ball kite key hat scarf lamp drum bell book ring map button cup spoon flute doll coin feather"
    " box marble whistle blanket basket bag ribbon boot mitten horn cap rope brush bucket pencil"
    " mirror crown star shell stone clock wagon"
)
LOOKS = (*COLORS, "shiny", "old", "tiny", "round", "pretty", "soft", "striped")
# A soft bell or a striped coin would be odd: looks that only some things have.
ONLY = {
    "soft": {"scarf", "hat", "blanket", "doll", "mitten", "feather", "ribbon", "bag", "cap"},
    "striped": {"scarf", "hat", "blanket", "ball", "mitten", "bag", "ribbon", "kite", "cap"},
    "round": {"ball", "box", "mirror", "stone", "basket", "button", "clock"},
    "shiny": {"key", "lamp", "bell", "ring", "coin", "spoon", "marble", "whistle", "horn", "crown",
              "star", "shell", "stone", "mirror", "button", "cup"},
}  # fmt: skip

# The plots where a thing plays a part, and the things that it may be.
MADE_BY_HAND = row(
    "ball kite hat scarf book box doll map blanket basket bag ribbon mitten cap crown star wagon"
)
FRAGILE = row("kite lamp drum flute doll cup spoon box whistle horn mirror crown shell clock wagon")
PLOT_THINGS: dict[str, tuple[str, ...]] = {
    "birthday": MADE_BY_HAND,
    "broken": FRAGILE,
    **dict.fromkeys(("lost", "stuck", "noise", "wished", "race"), THINGS),
}

FOODS = {
    "apple": "apples",
    "nut": "nuts",
    "berry": "berries",
    "pear": "pears",
    "plum": "plums",
    "bun": "buns",
    "cookie": "cookies",
    "carrot": "carrots",
    "cherry": "cherries",
    "pancake": "pancakes",
    "fig": "figs",
    "turnip": "turnips",
}

SEEDS = {
    "sunflower": "taller than {name}",
    "pumpkin": "as big as a barrel",
    "rose": "redder than the evening sky",
    "bean plant": "as high as the roof",
    "tulip": "as bright as a lamp",
    "melon": "as round as the moon",
    "daisy": "as white as milk",
}

DAYS = row("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = row(
    "January February March April May June July August September October November December"
)
