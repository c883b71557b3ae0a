"""Things lost, broken and stuck, and how they come right again."""

from __future__ import annotations

from recipe.corpus.grammar import a, title
from recipe.corpus.world import Story, ending, meets, opening


def lost(s: Story) -> None:
    """Something dear is gone; the first spot is wrong, the second is right."""
    hero, friend, draw = s.hero, s.friend, s.draw
    what, it = f"{s.look} {s.thing}", f"the {s.thing}"
    wrong, right, _ = s.spots
    s.title = f"{hero.name} and the Lost {title(s.thing)}"
    opening(s)
    s.tell(
        f"{hero.capital_he} had {a(what)}, and {hero.he} loved it more than anything.",
        f"The thing {hero.he} loved most was {hero.his} {what}.",
        f"Every day {hero.he} played with {hero.his} {what}.",
    )
    s.turn()
    s.tell(
        f"One morning {it} was gone, and {hero.name} was sad.",
        f"But one day {hero.name} lost {it}, and that made {hero.him} sad.",
        f"One windy day {it} was lost. {hero.name} was so sad that {hero.he} cried.",
    )
    s.happens(f"{hero.name} lost the {s.thing}")
    s.know("lost", a(what), name=hero.name)
    s.know("why_sad", f"because {it} was lost", name=hero.name)
    s.tell(
        f"First {hero.he} looked {wrong}, but there was nothing there.",
        f"{hero.capital_he} looked {wrong} first. It was not there.",
        f"First {hero.he} searched {wrong} and found only {draw.say('dust', 'leaves', 'a bug')}.",
    )
    s.happens(f"{hero.name} looked {wrong}")
    s.know("looked_first", wrong, name=hero.name)
    s.tell(
        f'Then {meets(s)} came by. "I will help you look," said {friend.name}.',
        f'{meets(s)} saw {hero.him} and said, "Do not cry. I will help you."',
        f'"Let us look together," said {meets(s)}.',
    )
    s.happens(f"{friend.name} came to help")
    s.know("helper", friend.full, name=hero.name)
    s.tell(
        f"They looked {right}, and there it was!",
        f"Together they went to look {right}. There was {it}!",
        f'"Look!" said {friend.name}. {it.capitalize()} was {right}.',
    )
    s.happens(f"they found the {s.thing}")
    s.know("found_where", right, name=hero.name, thing=s.thing)
    asked, answer = draw.one(((right, "yes"), (wrong, "no")))
    s.know("found_there", answer, name=hero.name, thing=s.thing, spot=asked)
    ending(
        s,
        draw.say("happy", "thankful"),
        f"And {hero.he} never lost {it} again.",
        "Two pairs of eyes see more than one.",
    )


def broken(s: Story) -> None:
    """The friend's thing breaks, and the truth mends more than a lie."""
    hero, friend = s.hero, s.friend
    what = f"{s.look} {s.thing}"
    hidden = s.spots[0]
    s.title = f"{hero.name} Tells the Truth"
    opening(s)
    s.tell(
        f"One day {hero.he} went to play with {meets(s)}.",
        f"{hero.capital_he} had a good friend, {meets(s)}.",
    )
    s.tell(
        f"{friend.name} had {a(what)} and was very proud of it.",
        f"{friend.name} showed {hero.him} {a(what)}.",
    )
    s.know("owner", friend.full, thing=s.thing)
    s.turn()
    s.tell(
        f"{hero.name} picked it up, but it fell and broke.",
        f"Then {hero.name} dropped the {s.thing}, and it broke.",
        f"But {hero.name} was not careful, and the {s.thing} broke.",
    )
    s.happens(f"the {s.thing} broke")
    s.know("broke", f"{a(what)}", name=hero.name)
    s.know("why_sad", f"because the {s.thing} broke", name=hero.name)
    s.tell(
        f"{hero.capital_he} was afraid and hid the {s.thing} {hidden}.",
        f"Quickly {hero.he} hid it {hidden} and ran away.",
    )
    s.happens(f"{hero.name} hid the {s.thing}")
    s.know("hid_where", hidden, name=hero.name, thing=s.thing)
    s.tell(
        f"All night {hero.name} was sad and could not sleep.",
        f"But {hero.name} was sad, and {hero.his} heart felt heavy.",
    )
    s.tell(
        f'In the morning {hero.he} told the truth. "I broke it. I am sorry."',
        f'At last {hero.he} went to {friend.name} and said, "It was me. I am so sorry."',
    )
    s.happens(f"{hero.name} told the truth")
    s.tell(
        f'"Thank you for telling me," said {friend.name}, and they mended it with glue.',
        f'{friend.name} was not angry. "Let us mend it together," {friend.he} said, and they did.',
    )
    s.happens(f"they mended the {s.thing}")
    s.know("mended", f"{hero.name} and {friend.name}", thing=s.thing)
    ending(
        s,
        "glad",
        "It is good to tell the truth.",
        f"The {s.thing} was almost as good as new, and so was their friendship.",
    )


TRAPS = {
    "in a deep hole": ("rope", "threw down a rope and pulled with all {his} strength"),
    "in a thorny bush": ("stick", "pushed the thorns away with a long stick"),
    "on a high branch": ("ladder", "brought a ladder and held it still"),
    "in an old net": ("knife", "cut the net with a small knife"),
    "in the mud": ("plank", "laid a plank over the mud"),
    "behind a heavy door": ("key", "found the key and opened the door"),
}


def stuck(s: Story) -> None:
    """Someone calls for help, and the hero brings what is needed."""
    hero, friend, draw = s.hero, s.friend, s.draw
    trap = draw.one(list(TRAPS))
    tool, deed = TRAPS[trap]
    spot = s.spots[0]
    gift = f"{s.look} {s.thing}"
    s.title = f"{hero.name} to the Rescue"
    opening(s)
    s.turn()
    s.tell(
        f"One day {hero.name} was walking along when {hero.he} heard a cry.",
        f'One evening {hero.name} heard a small voice. "Help! Help!"',
        f'"Help me!" somebody called. {hero.name} stopped and listened.',
    )
    s.happens(f"{hero.name} heard a cry")
    s.tell(
        f"The cry came from {meets(s)}, who was stuck {trap}.",
        f"It was {meets(s)}. {friend.capital_he} was stuck {trap}!",
    )
    s.know("stuck_who", friend.full)
    s.know("stuck_where", trap, friend=friend.name)
    s.tell(
        f'"Do not be afraid," said {hero.name}. "I will be back soon."',
        f'"Wait for me," said {hero.name}, and off {hero.he} ran.',
        f"{hero.name} thought hard about what to do.",
    )
    s.tell(f"Then {hero.he} {deed.format(his=hero.his)}.")
    s.happens(f"{hero.name} used a {tool}")
    s.know("tool", f"with {a(tool)}", name=hero.name, friend=friend.name)
    s.tell(
        f"Soon {friend.name} was free.",
        f"At last {friend.name} was free again.",
    )
    s.know("rescuer", hero.full, friend=friend.name)
    s.turn()
    s.tell(
        f"To say thank you, {friend.name} gave {hero.him} {a(gift)}.",
        f'"This is for you," said {friend.name}, and gave {hero.him} {a(gift)}.',
    )
    s.happens(f"{friend.name} gave a gift")
    s.know("gift", a(gift), friend=friend.name, name=hero.name)
    s.tell(
        f"{hero.name} put the {s.thing} {spot}, where all could see it.",
        f"{hero.name} kept the {s.thing} {spot}.",
    )
    s.know("kept_where", spot, name=hero.name, thing=s.thing)
    ending(s, "proud", "Whoever helps others is never alone.")


PLOTS = {"lost": lost, "broken": broken, "stuck": stuck}
