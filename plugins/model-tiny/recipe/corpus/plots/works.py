"""Growing, learning, building, and being afraid no longer: what takes patience."""

from __future__ import annotations

from recipe.corpus import words
from recipe.corpus.grammar import number, title
from recipe.corpus.world import Story, ending, meets, opening


def garden(s: Story) -> None:
    """A seed is planted and cared for, and something comes of it."""
    hero, friend, draw = s.hero, s.friend, s.draw
    plant = draw.one(list(words.SEEDS))
    spot, days = s.spots[0], draw.number(3, 12)
    s.title = f"The {title(plant)} of {hero.name}"
    opening(s)
    s.turn()
    s.tell(
        f"One spring day {meets(s)} gave {hero.him} a seed.",
        f"{meets(s)} came by and gave {hero.him} a little seed.",
    )
    s.happens(f"{friend.name} gave a seed")
    s.know("seed_from", friend.full, name=hero.name)
    s.tell(
        f"{hero.name} planted it {spot}.",
        f"{hero.name} dug a small hole {spot} and put the seed in.",
    )
    s.happens(f"{hero.name} planted the seed")
    s.know("planted_where", spot, name=hero.name)
    s.tell(
        f"Every morning {hero.he} gave it water and waited.",
        f"{hero.capital_he} gave it water each day and sang to it.",
    )
    s.tell(
        f'"Will it never grow?" {hero.he} asked. "Be patient," said {friend.name}.',
        f"For a long time there was only earth to see. {hero.name} waited and waited.",
    )
    s.tell(
        f"After {number(days)} days a green tip looked out of the ground.",
        f"Then, after {number(days)} days, something green came up!",
    )
    s.happens("something green came up")
    s.know("days", f"{number(days)} days")
    s.turn()
    s.tell(
        f"It grew into a {plant}, {words.SEEDS[plant].format(name=hero.name)}.",
        f"It was a {plant}! Soon it was {words.SEEDS[plant].format(name=hero.name)}.",
    )
    s.happens(f"it grew into a {plant}")
    s.know("grew", f"a {plant}", name=hero.name)
    ending(s, "proud", "Good things take time.", f"Everyone came to see the {plant}.")


SKILLS = {
    "swim": "like a fish",
    "whistle": "like a bird",
    "skate": "without a wobble",
    "dance": "like a leaf in the wind",
    "bake bread": "better than anyone",
    "climb": "right up to the top",
    "play the drum": "so that everyone clapped",
    "read": "a whole book",
    "juggle": "with three nuts",
    "sing": "high and low",
}


def learned(s: Story) -> None:
    """It does not work, and does not work, and then it does."""
    hero, friend, draw = s.hero, s.friend, s.draw
    skill = draw.one(list(SKILLS))
    tries, spot = draw.number(2, 9), s.spots[0]
    s.title = f"{hero.name} Learns to {title(skill)}"
    opening(s)
    s.tell(
        f"{hero.capital_he} wanted to {skill}, but {hero.he} did not know how.",
        f"All the others could {skill}. Only {hero.name} could not.",
    )
    s.know("could_not", skill, name=hero.name)
    s.turn()
    s.tell(
        f"{hero.name} tried {number(tries)} times and failed each time.",
        f"{hero.capital_he} tried {number(tries)} times, and {number(tries)} times it went wrong.",
    )
    s.happens(f"{hero.name} tried alone")
    s.know("tries", f"{number(tries)} times", name=hero.name)
    s.tell(
        f'"I give up," said {hero.name} and sat down {spot}.',
        f"{hero.capital_he} sat down {spot} and wanted to give up.",
    )
    s.happens(f"{hero.name} sat down")
    s.know("sat", spot, name=hero.name)
    s.tell(
        f'{meets(s)} saw it. "I will show you," {friend.he} said. "Go slowly, step by step."',
        f'"I could not do it at first either," said {meets(s)}. "Let me show you."',
    )
    s.happens(f"{friend.name} showed {hero.name} how")
    s.know("teacher", friend.full, name=hero.name, skill=skill)
    s.turn()
    s.tell(
        f"They worked at it day after day. And then {hero.name} could {skill}, {SKILLS[skill]}!",
        f"Little by little it went better, until {hero.name} could {skill}, {SKILLS[skill]}.",
    )
    s.happens(f"{hero.name} could {skill}")
    s.know("learned", f"to {skill}", name=hero.name)
    ending(s, "proud", "Nobody can do everything at once.", "It pays to try once more.")


FEARS = {
    "the dark": ("the stars", "it is only in the dark that you can see the stars"),
    "thunder": ("a song", "if you sing, the thunder is only a drum"),
    "deep water": ("one foot at a time", "you may go in one foot at a time"),
    "high places": ("the view", "if you look far away, you see the whole world"),
    "big dogs": ("a wagging tail", "a dog that wags its tail is glad to see you"),
    "being alone": ("a letter", "when you write a letter, you are not alone"),
}


def afraid(s: Story) -> None:
    """A fear, and what a friend knows against it."""
    hero, friend, draw = s.hero, s.friend, s.draw
    fear = draw.one(list(FEARS))
    cure, advice = FEARS[fear]
    hide = s.spots[0]
    s.title = f"{hero.name} Is Not Afraid"
    opening(s)
    s.tell(
        f"{hero.capital_he} was afraid of {fear}.",
        f"There was only one thing {hero.he} was afraid of, and that was {fear}.",
    )
    s.know("fear", f"{fear}", name=hero.name)
    s.tell(
        f"Whenever {hero.he} thought of it, {hero.he} hid {hide}.",
        f"One day it was so bad that {hero.he} hid {hide}.",
    )
    s.happens(f"{hero.name} hid")
    s.know("hid", hide, name=hero.name)
    s.turn()
    s.tell(
        f'{meets(s)} found {hero.him} there. "What is the matter?" {friend.he} asked.',
        f'Then {meets(s)} came and sat down there too. "Why do you hide?"',
    )
    s.happens(f"{friend.name} found {hero.name}")
    s.know("found_by", friend.full, name=hero.name)
    s.tell(
        f'"I am afraid of {fear}," said {hero.name}.',
        f"{hero.name} told {friend.him} everything.",
    )
    s.happens(f"{hero.name} told {friend.name} about it")
    s.tell(
        f'"I know something," said {friend.name}. "{advice[0].upper()}{advice[1:]}."',
        f'"When I was small I was afraid too," said {friend.name}. '
        f'"But {advice}. Remember {cure}."',
    )
    s.turn()
    s.tell(
        f"{hero.name} tried it, and it was true. {hero.capital_he} was not afraid any more.",
        f"The next time {hero.name} thought of that, and the fear grew small and went away.",
    )
    s.happens("the fear went away")
    ending(s, draw.say("proud", "thankful"), "To be brave is to be afraid and go on.")


BUILDS = {
    "a tree house": ("boards", "nails"),
    "a raft": ("logs", "rope"),
    "a snow fort": ("snow", "ice"),
    "a kite": ("paper", "string"),
    "a bird house": ("wood", "paint"),
    "a stone house": ("stones", "planks"),
    "a tent": ("cloth", "sticks"),
    "a scarecrow": ("straw", "old clothes"),
}


def built(s: Story) -> None:
    """Two work at one thing, a storm takes it, they build it better."""
    hero, friend, draw = s.hero, s.friend, s.draw
    what = draw.one(list(BUILDS))
    first, second = BUILDS[what]
    it = f"the {what.split(' ', 1)[1]}"
    spot = s.spots[0]
    s.title = f"{hero.name} Builds {title(what)}"
    opening(s)
    s.tell(
        f"One day {hero.he} wanted to build {what}.",
        f'"Today I will build {what}!" said {hero.name}.',
    )
    s.know("build", what, name=hero.name)
    s.turn()
    s.tell(
        f"{meets(s)} came to help.",
        f'"May I help?" asked {meets(s)}. "Oh yes," said {hero.name}.',
    )
    s.know("helper", friend.full, name=hero.name)
    s.tell(
        f"{hero.name} brought {first}, and {friend.name} brought {second}.",
        f"{friend.name} brought {second}, and {hero.name} brought {first}.",
    )
    s.happens(f"{hero.name} and {friend.name} brought what they needed")
    s.know("brought", first, name=hero.name)
    s.know("brought", second, name=friend.name)
    s.tell(
        f"They built {it} {spot}.",
        f"{spot.capitalize()} they began to work, and soon {it} was there.",
    )
    s.happens(f"they built {it}")
    s.know("built_where", spot, thing=it.removeprefix("the "))
    s.tell(
        f"But in the night a storm came, and in the morning {it} lay in pieces.",
        f"Then a storm came, and {it} fell down.",
    )
    s.happens("a storm came")
    s.know("storm", "a storm", it=it)
    s.tell(
        f'"Now we know how to do it better," said {friend.name}.',
        f'{hero.name} sighed, but {friend.name} said, "Let us start again."',
    )
    s.turn()
    s.tell(
        f"They built {it} once more, and this time it was strong.",
        "So they began again, and the new one was much stronger.",
    )
    s.happens("they built it again")
    ending(s, "proud", f"Many came to see {it}.", "What is built by two stands fast.")


PLOTS = {"garden": garden, "learned": learned, "afraid": afraid, "built": built}
