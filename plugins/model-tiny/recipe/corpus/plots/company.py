"""Sharing, strange noises, birthdays: what friends are for."""

from __future__ import annotations

from recipe.corpus import words
from recipe.corpus.grammar import a, number, title
from recipe.corpus.world import Story, ending, meets, opening


def shared(s: Story) -> None:
    """Food is found and some of it given away."""
    hero, friend, draw = s.hero, s.friend, s.draw
    one = draw.one(list(words.FOODS))
    foods = words.FOODS[one]
    spot = s.spots[0]
    while True:
        had, gave = draw.pair("-", 1, 9)
        if had > gave > 0:
            break
    left = had - gave

    def count(many: int) -> str:
        return f"{number(many)} {one if many == 1 else foods}"

    s.title = f"{hero.name} and the {title(foods)}"
    opening(s)
    s.turn()
    s.tell(
        f"One day {hero.name} found {count(had)} {spot}.",
        f"One morning {hero.he} went for a walk and found {count(had)} {spot}.",
        f"{hero.name} was hungry. Then {hero.he} found {count(had)} {spot}!",
    )
    s.happens(f"{hero.name} found the {foods}")
    s.know("how_many_found", number(had), name=hero.name, things=foods)
    s.know("found_where", spot, name=hero.name, thing=foods)
    s.know("found_what", count(had), name=hero.name)
    s.tell(
        f"On the way home {hero.he} met {meets(s)}.",
        f"Then {meets(s)} came along the path.",
        f"{hero.capital_he} was about to eat when {meets(s)} came by.",
    )
    s.happens(f"{hero.name} met {friend.name}")
    s.know("met", friend.full, name=hero.name)
    s.tell(
        f'"I am so hungry," said {friend.name}.',
        f'"I have had nothing to eat all day," said {friend.name}.',
        f"{friend.name} was hungry and had nothing to eat.",
    )
    s.know("why_gave", f"because {friend.name} was hungry", name=hero.name, friend=friend.name)
    s.tell(
        f"So {hero.name} gave {friend.him} {count(gave)}.",
        f'"Take {count(gave)}," said {hero.name} with a smile.',
        f"{hero.name} gave {count(gave)} to {friend.name}.",
    )
    s.happens(f"{hero.name} shared the {foods}")
    s.know("how_many_gave", number(gave), name=hero.name, friend=friend.name, things=foods)
    s.tell(
        f"Now {hero.name} had {count(left)} left, and that was enough.",
        f"{hero.name} still had {count(left)} left.",
    )
    s.know("how_many_left", number(left), name=hero.name, things=foods)
    s.tell(
        "They sat down in the sun and ate together.",
        f"They ate together {s.spots[1]} and told each other jokes.",
    )
    ending(
        s,
        draw.say("happy", "glad"),
        "Food tastes better when it is shared.",
        f"{friend.name} never forgot how kind {hero.name} had been.",
    )


NOISES = {
    "a soft tap, tap, tap": "was knocking on a nut",
    "a loud hoo, hoo": "was singing to the moon",
    "a long, low rumble": "was snoring",
    "a splash": "was taking a bath",
    "a squeak": "was riding a rusty wheel",
    "a strange hum": "was humming a tune",
    "a crunch, crunch": "was eating toast",
}


def noise(s: Story) -> None:
    """A noise in the night turns out to be a friend."""
    hero, friend, draw = s.hero, s.friend, s.draw
    sound = draw.one(list(NOISES))
    doing = NOISES[sound]
    spot = s.spots[0]
    thought = draw.say("a ghost", "a monster", "a thief", "a troll")
    s.title = f"{hero.name} and the Noise in the Night"
    opening(s)
    s.turn()
    s.tell(
        f"One dark night, {hero.name} heard {sound}.",
        f"One night {hero.name} could not sleep, for {hero.he} heard {sound}.",
        f"It was late at night when {hero.name} heard {sound}.",
    )
    s.happens(f"{hero.name} heard the noise")
    s.know("heard", sound, name=hero.name)
    s.tell(
        f'"Is it {thought}?" {hero.he} wondered.',
        f'"That must be {thought}!" thought {hero.name}.',
    )
    s.know("thought", thought, name=hero.name)
    s.tell(
        f"{hero.capital_he} took {hero.his} {s.look} {s.thing} and went out to look.",
        f"{hero.name} was afraid, but {hero.he} held {hero.his} {s.look} {s.thing} and went out.",
    )
    s.happens(f"{hero.name} went out to look")
    s.know("took", f"{a(f'{s.look} {s.thing}')}", name=hero.name)
    s.tell(
        f"The noise came from {meets(s)}, who {doing} {spot}.",
        f"And who was there, {spot}? It was {meets(s)}. {friend.capital_he} {doing}.",
    )
    s.happens(f"{hero.name} found {friend.name}")
    s.know("noise_who", friend.full)
    s.know("noise_where", spot)
    s.know("doing", f"{friend.he} {doing}", friend=friend.name)
    s.turn()
    s.tell(
        f'{hero.name} laughed. "I thought you were {thought}!"',
        f'"Oh, it is only you!" said {hero.name}, and they both laughed.',
    )
    s.happens("they laughed")
    ending(
        s,
        draw.say("glad", "happy"),
        "After that, no noise in the night could frighten the two.",
        "Things are often less scary when you look at them.",
    )


def birthday(s: Story) -> None:
    """A present made by hand, and a mishap on the way."""
    hero, friend, draw = s.hero, s.friend, s.draw
    spot, day = s.spots[0], draw.one(words.DAYS)
    if s.look == "old":
        s.look = "pretty"
    present = f"{s.look} {s.thing}"
    bad, luck = draw.one(
        (
            ("it began to rain", "under a big leaf until the rain was over"),
            ("a strong wind blew", "behind a wall until the wind was still"),
            ("it began to hail", "in a barrel until the sky was blue"),
        )
    )
    s.title = f"A Present for {friend.name}"
    opening(s)
    s.tell(
        f"On {day} it was the birthday of {meets(s)}.",
        f"{meets(s)} had a birthday on {day}.",
    )
    s.know("birthday_who", friend.full)
    s.know("birthday_when", f"on {day}", friend=friend.name)
    s.turn()
    s.tell(
        f"{hero.name} had no money, so {hero.he} made {a(present)} all by {hero.him}self.",
        f'"I will make something nice," said {hero.name}, and {hero.he} made {a(present)}.',
    )
    s.happens(f"{hero.name} made the {s.thing}")
    s.know("made", a(present), name=hero.name, friend=friend.name)
    s.tell(
        f"{hero.capital_he} worked {spot}, where nobody could see {hero.him}.",
        f"It took all day. {hero.capital_he} sat {spot} and worked.",
    )
    s.know("worked_where", spot, name=hero.name)
    s.tell(
        f"Then {bad}! {hero.name} kept the {s.thing} safe {luck}.",
        f"But then {bad}, and {hero.name} waited {luck}.",
    )
    s.happens(bad)
    s.turn()
    s.tell(
        f"On {day} {hero.name} gave the {s.thing} to {friend.name}.",
        f'"Happy birthday!" said {hero.name}, and gave {friend.him} the {s.thing}.',
    )
    s.happens(f"{friend.name} got the {s.thing}")
    s.tell(
        f'"It is the best present of all," said {friend.name}, "because you made it for me."',
        f'{friend.name} hugged {hero.him}. "I will keep it forever," {friend.he} said.',
    )
    s.know("why_best", f"because {hero.name} made it", friend=friend.name, thing=s.thing)
    ending(
        s, draw.say("happy", "proud"), "There was cake for everyone.", "It was a day to remember."
    )


PLOTS = {"shared": shared, "noise": noise, "birthday": birthday}
