"""Ways that are long, races, letters to carry."""

from __future__ import annotations

from recipe.corpus.grammar import a, title
from recipe.corpus.world import Story, ending, meets, opening

BARS = {
    "a wide river": ("boat", "rowed {him} over in a little boat"),
    "a high wall": ("ladder", "held a ladder for {him}"),
    "a dark tunnel": ("lantern", "lit the way with a lantern"),
    "a muddy swamp": ("plank", "laid planks over the mud"),
    "a locked gate": ("key", "opened it with a key"),
    "a steep cliff": ("rope", "let down a strong rope"),
}
SIGHTS = (
    "the sea",
    "the rainbow bridge",
    "the first snow",
    "the singing tree",
    "the great market",
    "the house of clocks",
    "the lake of stars",
    "the golden hill",
    "the dancing lights",
    "the blue mountain",
)


def wished(s: Story) -> None:
    """A wish to see something, a bar in the way, a helper with the right thing."""
    hero, friend, draw = s.hero, s.friend, s.draw
    sight, bar = draw.one(SIGHTS), draw.one(list(BARS))
    tool, deed = BARS[bar]
    s.title = f"{hero.name} Wants to See {title(sight).replace('The', 'the')}"
    opening(s)
    s.tell(
        f"More than anything, {hero.he} wanted to see {sight}.",
        f"{hero.capital_he} had one big wish: to see {sight}.",
        f'"One day I will see {sight}," {hero.he} always said.',
    )
    s.know("wish", f"{sight}", name=hero.name)
    s.turn()
    s.tell(
        f"So one morning {hero.name} packed {a(f'{s.look} {s.thing}')} and set out.",
        f"One day {hero.he} took {hero.his} {s.look} {s.thing} and went on {hero.his} way.",
    )
    s.happens(f"{hero.name} set out")
    s.know("took", a(f"{s.look} {s.thing}"), name=hero.name)
    s.tell(
        f"{hero.capital_he} walked and walked, until {hero.he} came to {bar}.",
        f"But soon {bar} was in the way.",
        f"After a while {hero.he} came to {bar} and could not go on.",
    )
    s.happens(f"{hero.name} came to {bar}")
    s.know("bar", bar, name=hero.name)
    s.tell(
        f'{meets(s)} was sitting there. "Can I help you?" {friend.he} asked.',
        f'Just then {meets(s)} came by. "I know what to do," {friend.he} said.',
    )
    s.tell(f"{friend.name} {deed.format(him=hero.him)}.")
    s.happens(f"{friend.name} helped with {a(tool)}")
    s.know("helper", friend.full, name=hero.name)
    s.know("tool", f"with {a(tool)}", name=friend.name, friend=hero.name)
    s.turn()
    s.tell(
        f"In the evening they saw {sight} together. It was even finer than in a dream.",
        f"And there it was: {sight}! They sat down and looked for a long time.",
    )
    s.happens(f"they saw {sight}")
    ending(
        s,
        draw.say("happy", "thankful"),
        "A long way is short with a friend.",
        f"At home {hero.name} told everyone about it.",
    )


def race(s: Story) -> None:
    """The one who is sure of winning rests; the other goes on."""
    hero, friend, draw = s.hero, s.friend, s.draw
    start, goal, rest = s.spots
    prize = f"{s.look} {s.thing}"
    wins = draw.chance(0.5)
    winner, loser = (hero, friend) if wins else (friend, hero)
    why = draw.say("picked flowers", "took a nap", "stopped to eat", "looked at the clouds")
    s.title = "The Race"
    opening(s)
    s.tell(
        f'One day {meets(s)} said, "I am faster than you!"',
        f'{hero.capital_he} met {meets(s)}. "Let us have a race," said {friend.name}.',
    )
    s.know("raced", friend.full, name=hero.name)
    s.tell(
        f"The race began {start}, and the end was {goal}.",
        f"They would start {start} and stop {goal}.",
    )
    s.know("race_start", start)
    s.know("race_end", goal)
    s.tell(
        f"The prize was {a(prize)}.",
        f"Whoever came first would get {a(prize)}.",
    )
    s.know("prize", a(prize))
    s.turn()
    s.tell("One, two, three, and off they ran!", "Ready, steady, go! Off they went.")
    s.happens("the race began")
    s.tell(
        f"{loser.name} was in front and laughed. So {loser.he} {why} {rest}.",
        f'"I have plenty of time," said {loser.name}, and {loser.he} {why} {rest}.',
    )
    s.happens(f"{loser.name} {why}")
    s.know("what_did", f"{loser.he} {why}", name=loser.name)
    s.know("why_lost", f"because {loser.he} {why}", name=loser.name)
    s.tell(
        f"But {winner.name} went on and on, and came first.",
        f"{winner.name} did not stop once, and {winner.he} won.",
    )
    s.happens(f"{winner.name} won the race")
    s.know("won", winner.full)
    asked = draw.one((hero, friend))
    s.know("did_win", "yes" if asked is winner else "no", name=asked.name)
    s.tell(
        f'"Well done," said {loser.name}. "Next time I will not stop."',
        f'"You ran well," said {loser.name}, and they shook hands.',
    )
    if wins:
        ending(s, "proud", "Slow and steady is often best.")
    else:
        ending(s, "glad", f"After all, it had been fun, and {friend.name} let {hero.him} use "
               f"the {s.thing} too.")  # fmt: skip


def letter(s: Story) -> None:
    """Something must be carried to a friend, through bad weather."""
    hero, friend, draw = s.hero, s.friend, s.draw
    spot = s.spots[0]
    cargo = draw.say("a letter", "a pot of soup", "a warm loaf", "a jar of honey", "a small cake")
    weather, cover = draw.one(
        (
            ("rain", "it was wet"),
            ("snow", "it was cold"),
            ("fog", "one could hardly see"),
            ("wind", "it almost blew {him} over"),
        )
    )
    reason = draw.say("was ill", "had hurt a foot", "was lonely", "had a cold")
    s.title = f"{hero.name} Brings {title(cargo)}"
    opening(s)
    s.tell(
        f"One day {hero.he} heard that {meets(s)} {reason}.",
        f"{meets(s)} {reason} and had to stay at home.",
    )
    s.know("wrong_with", f"{friend.he} {reason}", friend=friend.name)
    s.happens(f"{friend.name} {reason}")
    s.tell(
        f'"I will bring {friend.him} {cargo}," said {hero.name}.',
        f"So {hero.name} set out with {cargo} for {friend.him}.",
    )
    s.know("carried", cargo, name=hero.name, friend=friend.name)
    s.know("why_went", f"because {friend.name} {reason}", name=hero.name, friend=friend.name)
    s.turn()
    s.tell(
        f"On the way there was {weather}, and {cover.format(him=hero.him)}.",
        f"Soon the {weather} came, and {cover.format(him=hero.him)}.",
    )
    s.happens(f"the {weather} came")
    s.know("weather", weather, name=hero.name)
    s.tell(
        f"{hero.name} rested {spot}, and then {hero.he} went on.",
        f"{hero.capital_he} sat down {spot} for a while. Then {hero.he} got up again.",
    )
    s.happens(f"{hero.name} rested")
    s.know("rested", spot, name=hero.name)
    s.tell(
        f'At last {hero.he} knocked at the door. "You came in this {weather}!" said {friend.name}.',
        f'When {hero.he} came in, {friend.name} smiled. "How good of you to come!"',
    )
    s.happens(f"{hero.name} came to {friend.name}")
    s.tell(
        f"Before long {friend.name} felt much better.",
        f"They sat by the fire, and {friend.name} felt better at once.",
    )
    ending(s, draw.say("glad", "happy"), "A friend comes in any weather.")


PLOTS = {"wished": wished, "race": race, "letter": letter}
