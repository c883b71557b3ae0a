"""Who is in a story and what is known of it: the state that both the prose and the answers use."""

from __future__ import annotations

from dataclasses import dataclass, field

from recipe.corpus import words
from recipe.corpus.grammar import a, upper_first
from recipe.corpus.held_out import Draw


@dataclass(frozen=True, slots=True)
class Character:
    """Someone with a name. `he` is how the prose calls them."""

    kind: str
    name: str
    he: str

    @property
    def him(self) -> str:
        return "him" if self.he == "he" else "her"

    @property
    def his(self) -> str:
        return "his" if self.he == "he" else "her"

    @property
    def capital_he(self) -> str:
        return upper_first(self.he)

    @property
    def full(self) -> str:
        return f"{self.name} the {self.kind}"


@dataclass(frozen=True, slots=True)
class Fact:
    """A question's kind, what fills its wordings, and the one right answer."""

    kind: str
    answer: str
    slots: dict[str, str]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a story was asked to hold; None leaves it to chance."""

    kind: str | None = None
    name: str | None = None
    setting: str | None = None
    thing: str | None = None


@dataclass
class Story:
    """The characters, and what the plot has told so far."""

    draw: Draw
    hero: Character
    friend: Character
    setting: words.Setting
    trait: str
    spots: list[str]
    look: str
    thing: str
    plot: str
    title: str = ""
    paragraphs: list[list[str]] = field(default_factory=lambda: [[]])
    facts: list[Fact] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n\n".join(" ".join(each) for each in self.paragraphs if each)

    def tell(self, *wordings: str) -> None:
        """One of these sentences comes next."""
        self.paragraphs[-1].append(self.draw.one(wordings))

    def turn(self) -> None:
        """A new paragraph."""
        self.paragraphs.append([])

    def know(self, kind: str, answer: str, /, **slots: str) -> None:
        """Something that can be asked from here on."""
        fact = Fact(kind, upper_first(answer) + ".", slots)
        if fact not in self.facts:
            self.facts.append(fact)

    def happens(self, event: str) -> None:
        """A step that can be asked for its place among the others."""
        self.events.append(event)


def cast(draw: Draw, wish: Wish, kind: str, plot: str) -> Story:
    """A hero of that kind, a friend of another, a place both live in, and a thing."""
    homes = [each for each in words.KINDS[kind] if wish.setting in (None, each)]
    home = draw.one(homes)
    hero = _character(draw, kind, wish.name, without="")
    near = [k for k, where in words.KINDS.items() if home in where and k != kind]
    friend = _character(draw, draw.one(near), None, without=hero.name)
    setting = words.SETTINGS[home]
    thing = wish.thing or draw.one(words.PLOT_THINGS.get(plot, words.THINGS))
    looks = [each for each in words.LOOKS if each not in words.ONLY or thing in words.ONLY[each]]
    return Story(
        draw=draw,
        hero=hero,
        friend=friend,
        setting=setting,
        trait=draw.one(words.TRAITS),
        spots=draw.some(setting.spots, 3),
        look=draw.one(looks),
        thing=thing,
        plot=plot,
    )


def _character(draw: Draw, kind: str, name: str | None, without: str) -> Character:
    he, she = kind in words.HE, kind in words.SHE
    if name is None:
        names = () if she else words.HE_NAMES
        names += () if he else words.SHE_NAMES
        name = draw.one([each for each in names if each != without])
    return Character(kind, name, "he" if name in words.HE_NAMES else "she")


def opening(story: Story, wants: str = "") -> None:
    """The first sentences: who, and where."""
    hero, draw = story.hero, story.draw
    what, place = a(f"{story.trait} {hero.kind}"), story.setting.phrase
    story.tell(
        f"Once upon a time, there was {what} named {hero.name}.",
        f"Once there was {what} called {hero.name}.",
        f"There once was {what}, and {hero.his} name was {hero.name}.",
        f"{hero.name} was {what}.",
        f"This is the story of {hero.name}, {what}.",
        f"Long ago, there lived {what} named {hero.name}.",
    )
    story.tell(
        f"{hero.name} lived {place}.",
        f"{hero.capital_he} lived {place}.",
        f"{hero.capital_he} had a cozy home {place}.",
        f"{hero.name} had always lived {place}.",
    )
    story.know("name", hero.name, kind=hero.kind)
    story.know("creature", a(hero.kind), name=hero.name)
    story.know("home", place, name=hero.name)
    truth = draw.chance(0.5)
    other = hero.kind if truth else draw.one([k for k in words.KINDS if k != hero.kind])
    story.know("is_kind", "yes" if truth else "no", name=hero.name, a_kind=a(other))


def meets(story: Story) -> str:
    """The friend, as one meets them for the first time."""
    story.know("creature", a(story.friend.kind), name=story.friend.name)
    story.know("name", story.friend.name, kind=story.friend.kind)
    return f"{story.friend.name} the {story.friend.kind}"


FEELINGS = {
    "happy": (
        "{name} was very happy.",
        "{name} was so happy that {he} sang all the way home.",
        "That night {name} went to bed happy.",
    ),
    "proud": (
        "{name} felt very proud.",
        "{name} went home proud, with {his} head held high.",
        "How proud {name} was!",
    ),
    "glad": (
        "{name} was glad.",
        "{name} was glad, and so was {friend}.",
        "{name} smiled and felt glad.",
    ),
    "thankful": (
        "{name} was thankful to have such a friend.",
        "{name} felt thankful and gave {friend} a hug.",
        "{name} said thank you three times, so thankful was {he}.",
    ),
}


def ending(story: Story, feeling: str, *lessons: str) -> None:
    """How the hero feels at last, and a closing sentence."""
    hero, friend = story.hero, story.friend
    slots = {"name": hero.name, "he": hero.he, "his": hero.his, "friend": friend.name}
    story.turn()
    story.tell(*(each.format(**slots) for each in FEELINGS[feeling]))
    if story.draw.chance(0.7):
        story.tell(
            f"From that day on, {hero.name} and {friend.name} were the best of friends.",
            *lessons,
        )
    story.know("feeling_end", feeling, name=hero.name)
