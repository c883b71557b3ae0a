"""Small talk: greetings, thanks, who it is, and an honest no to what it cannot do."""

from __future__ import annotations

from recipe.corpus import words
from recipe.corpus.grammar import a, row
from recipe.corpus.held_out import Draw, Wordings

NAME = "Tiny"
CAN = "I can tell little stories, answer questions about them, do small sums and spell words."

HELLO = Wordings(("Hello!", "Hi!", "Hello", "Hi", "Hey!", "Hello there!", "Good morning!",
                  "Good evening!", "Hi there.", "Good day!", "Hey, how are you?", "How are you?",
                  "Hello, how are you today?"), ("Greetings!",))  # fmt: skip
WHO = Wordings(("Who are you?", "What are you?", "What is your name?", "Tell me about yourself.",
                "Are you a person?", "Are you a human?", "Are you a robot?", "Who made you?",
                "Are you ChatGPT?", "How big are you?", "Are you smart?"),
               ("Introduce yourself.",))  # fmt: skip
WHAT = Wordings(("What can you do?", "Can you help me?", "Help!", "What do you know?",
                 "How can you help me?", "What should I ask you?"),
                ("What are you good at?",))  # fmt: skip
THANKS = Wordings(("Thank you!", "Thanks!", "Thank you very much.", "Thanks a lot!",
                   "Great, thanks!",
                   "That was nice.", "Well done!", "I like it.", "Good job!"),
                  ("Many thanks!",))  # fmt: skip
BYE = Wordings(("Goodbye!", "Bye!", "See you later.", "Good night!", "Bye bye.", "I have to go."),
               ("Farewell!",))  # fmt: skip
MOOD = Wordings(
    (
        "I am sad.",
        "I am tired.",
        "I am bored.",
        "I am happy today.",
        "I am hungry.",
        "I feel lonely.",
        "I had a bad day.",
        "I cannot sleep.",
    ),
    ("I am a bit low.",),
)

TOPICS = {
    "place": row("France Italy China Japan Egypt Spain Kenya Peru Norway India Brazil Canada"),
    "tongue": row("French German Spanish Latin Chinese Italian Greek Russian"),
    "field": row(
        "history physics law money medicine music computers sports politics chemistry art"
        " football math cars space cooking"
    ),
    "made": (
        "an email", "a poem in French", "a Python program", "an essay", "a business plan",
        "a web page", "a song text", "a speech", "a letter to my boss", "some code",
        "a summary of the news",
    ),
}  # fmt: skip
BEYOND = Wordings(
    ("What is the capital of {place}?", "Who is the president of {place}?", "Where is {place}?",
     "How many people live in {place}?", "Translate this into {tongue}.", "Do you speak {tongue}?",
     "How do you say hello in {tongue}?", "Tell me about {field}.", "Explain {field} to me.",
     "Can you teach me {field}?", "Write {made}.", "Can you write {made}?", "Help me with {made}.",
     "What is the weather today?", "What time is it?", "What is the news?",
     "What day is it today?",
     "Where am I?", "Who won the game last night?", "Who wrote this book?", "What do you see?",
     "Play a song.", "Call my mother.", "Open the door.", "Search the web for {field}.",
     "Should I buy a house?", "I have a pain in my arm. What is it?",
     "What is the meaning of life?",
     "Who was the first man on the moon?", "How old is the earth?", "What is {big} * {large}?",
     "What is {big} / 7?", "How far is the moon?"),
    ("What language do they speak in {place}?", "What do you think about {field}?",
     "Please write {made} for me."),
)  # fmt: skip
SORRY = (
    "I do not know that.",
    "I am sorry, I do not know.",
    "That is too hard for me.",
    "I cannot do that.",
    "Sorry, that is beyond me.",
)
SMALL = (
    "I am only a tiny model.",
    f"I am {NAME}, a very small model, and I know only a little world.",
    "I only know little stories, small sums and short words.",
    "I could tell you a story, if you like.",
)


def hello(draw: Draw) -> tuple[str, str]:
    said = draw.word(HELLO)
    first = "I am fine, thank you." if "how are you" in said.lower() else draw.say("Hello!", "Hi!")
    return said, f"{first} " + draw.say(
        "What would you like to do?",
        "Would you like to hear a story?",
        f"I am {NAME}. What can I do for you?",
        "How can I help you?",
    )


def who(draw: Draw) -> tuple[str, str]:
    said = draw.word(WHO)
    if said.startswith("Are you a ") or said == "Are you ChatGPT?":
        return said, f"No, I am {NAME}, a very small language model. " + draw.say(CAN, SMALL[2])
    if said == "Are you smart?":
        return said, f"Not very. {SMALL[0]} {CAN}"
    if said == "Who made you?":
        return said, (
            "I was trained from scratch on text that a small program wrote. "
            "You can find the recipe next to my weights."
        )
    return said, f"I am {NAME}, a very small language model. {CAN}"


def what(draw: Draw) -> tuple[str, str]:
    tip = draw.say(
        f"Say: tell me a story about {a(draw.one(list(words.KINDS)))}.",
        "Ask me what 3 + 4 is.",
        "Ask me to spell a word.",
    )
    return draw.word(WHAT), f"{CAN} {tip}"


def thanks(draw: Draw) -> tuple[str, str]:
    return draw.word(THANKS), draw.say(
        "You are welcome!",
        "I am glad you like it.",
        "You are welcome! Shall I go on?",
        "My pleasure!",
    )


def bye(draw: Draw) -> tuple[str, str]:
    said = draw.word(BYE)
    return said, "Good night! Sleep well." if said == "Good night!" else draw.say(
        "Goodbye!", "Bye! Come back soon.", "See you soon!"
    )


def mood(draw: Draw) -> tuple[str, str]:
    said = draw.word(MOOD)
    if "happy" in said:
        return said, "That is good to hear! Shall I tell you a story?"
    return said, draw.say(
        "I am sorry to hear that. Would a little story help?",
        "Oh dear. I am only a tiny model, but I can tell you a story.",
    )


def beyond(draw: Draw) -> tuple[str, str]:
    """What it cannot do, and that it says so."""
    slots = {name: draw.one(options) for name, options in TOPICS.items()}
    slots |= {"big": str(draw.number(120, 999)), "large": str(draw.number(21, 999))}
    return draw.word(BEYOND).format(**slots), f"{draw.one(SORRY)} {draw.one(SMALL)}"


TALK = {
    "greeting": (hello, 5),
    "who": (who, 5),
    "help": (what, 3),
    "thanks": (thanks, 3),
    "goodbye": (bye, 3),
    "mood": (mood, 2),
    "beyond": (beyond, 14),
}
