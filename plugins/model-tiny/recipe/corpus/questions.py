"""How facts of a story are asked for. The second list of each kind is only ever tested."""

from __future__ import annotations

from recipe.corpus.grammar import upper_first
from recipe.corpus.held_out import Draw, Wordings
from recipe.corpus.world import Fact, Story


def _w(*train: str, held: str) -> Wordings:
    return Wordings(train, (held,))


ASKED: dict[str, Wordings] = {
    "name": _w("What was the name of the {kind}?", "What was the {kind} called?",
               "What is the name of the {kind}?", held="Which name did the {kind} have?"),
    "creature": _w("What was {name}?", "What kind of creature was {name}?",
                   "Who or what was {name}?", held="Tell me what kind of creature {name} was."),
    "home": _w("Where did {name} live?", "Where was the home of {name}?",
               held="In which place did {name} live?"),
    "is_kind": _w("Was {name} {a_kind}?", "Is {name} {a_kind}?",
                  held="Is it true that {name} was {a_kind}?"),
    "feeling_end": _w("How did {name} feel at the end?", "How did {name} feel in the end?",
                      "How did {name} feel when it was over?",
                      held="At the end of the story, how did {name} feel?"),
    "lost": _w("What did {name} lose?", "What was lost?", "What had {name} lost?",
               held="Which thing did {name} lose?"),
    "why_sad": _w("Why was {name} sad?", "Why did {name} feel sad?",
                  held="What made {name} so sad, and why?"),
    "looked_first": _w("Where did {name} look first?", "Where did {name} search first?",
                       held="Which place did {name} look in first?"),
    "helper": _w("Who helped {name}?", "Who came to help {name}?",
                 held="Which friend helped {name}?"),
    "found_where": _w("Where did {name} find the {thing}?", "Where was the {thing} found?",
                      "Where did they find the {thing}?",
                      held="In which place did {name} find the {thing}?"),
    "found_there": _w("Was the {thing} found {spot}?", "Did they find the {thing} {spot}?",
                      held="Is it true that the {thing} was found {spot}?"),
    "owner": _w("Whose {thing} was it?", "Who owned the {thing}?",
                held="To whom did the {thing} belong?"),
    "broke": _w("What did {name} break?", "What broke?", held="Which thing did {name} break?"),
    "hid_where": _w("Where did {name} hide the {thing}?", "Where was the {thing} hidden?",
                    held="In which place did {name} hide the {thing}?"),
    "mended": _w("Who mended the {thing}?", "Who repaired the {thing}?",
                 held="By whom was the {thing} mended?"),
    "stuck_who": _w("Who was stuck?", "Who called for help?", held="Who could not get free?"),
    "stuck_where": _w("Where was {friend} stuck?", "Where did {friend} get stuck?",
                      held="In which place was {friend} stuck?"),
    "tool": _w("How did {name} help {friend}?", "With what did {name} help {friend}?",
               held="What did {name} use to help {friend}?"),
    "rescuer": _w("Who saved {friend}?", "Who set {friend} free?",
                  held="By whom was {friend} saved?"),
    "gift": _w("What did {friend} give to {name}?", "What did {name} get from {friend}?",
               held="Which gift did {friend} give to {name}?"),
    "kept_where": _w("Where did {name} keep the {thing}?", "Where did {name} put the {thing}?",
                     held="In which place did {name} keep the {thing}?"),
    "how_many_found": _w("How many {things} did {name} find?", "How many {things} were found?",
                         held="What number of {things} did {name} find?"),
    "found_what": _w("What did {name} find?", "What was it that {name} found?",
                     held="Tell me what {name} found."),
    "met": _w("Who did {name} meet?", "Who came along?", held="Tell me who {name} met."),
    "why_gave": _w("Why did {name} share with {friend}?", "Why did {name} give food to {friend}?",
                   held="For what reason did {name} share with {friend}?"),
    "how_many_gave": _w("How many {things} did {name} give to {friend}?",
                        "How many {things} did {friend} get?",
                        held="What number of {things} did {name} give to {friend}?"),
    "how_many_left": _w("How many {things} did {name} have left?", "How many {things} were left?",
                        held="What number of {things} did {name} have left?"),
    "heard": _w("What did {name} hear?", "What noise did {name} hear?",
                held="Tell me what {name} heard."),
    "thought": _w("What did {name} think it was?", "What did {name} think the noise was?",
                  held="Tell me what {name} thought it was."),
    "took": _w("What did {name} take along?", "What did {name} take?",
               held="Which thing did {name} take along?"),
    "noise_who": _w("Who made the noise?", "Who was making the noise?",
                    held="From whom did the noise come?"),
    "noise_where": _w("Where did the noise come from?", "Where was the noise?",
                      held="From which place did the noise come?"),
    "doing": _w("What was {friend} doing?", "What did {friend} do in the night?",
                held="Tell me what {friend} was doing."),
    "birthday_who": _w("Whose birthday was it?", "Who had a birthday?",
                       held="Tell me whose birthday it was."),
    "birthday_when": _w("When was the birthday?", "When did {friend} have a birthday?",
                        held="On which day was the birthday?"),
    "made": _w("What did {name} make?", "What did {name} make for {friend}?",
               held="Which present did {name} make?"),
    "worked_where": _w("Where did {name} work?", "Where did {name} make the present?",
                       held="In which place did {name} work?"),
    "why_best": _w("Why did {friend} like the {thing} so much?",
                   "Why was the {thing} the best present?",
                   held="For what reason did {friend} like the {thing} so much?"),
    "wish": _w("What did {name} want to see?", "What did {name} wish to see?",
               held="Tell me what {name} wanted to see."),
    "bar": _w("What was in the way?", "What did {name} come to?", held="What stopped {name}?"),
    "raced": _w("Who did {name} race with?", "Who ran against {name}?",
                held="Tell me who {name} had a race with."),
    "race_start": _w("Where did the race begin?", "Where did the race start?",
                     held="In which place did the race begin?"),
    "race_end": _w("Where did the race end?", "Where was the end of the race?",
                   held="In which place did the race end?"),
    "prize": _w("What was the prize?", "What did the winner get?",
                held="Tell me what the prize was."),
    "what_did": _w("What did {name} do in the race?", "What did {name} do instead of running?",
                   held="Tell me what {name} did in the race."),
    "why_lost": _w("Why did {name} lose the race?", "Why did {name} not win?",
                   held="For what reason did {name} lose the race?"),
    "won": _w("Who won the race?", "Who was the winner?", "Who came first?",
              held="By whom was the race won?"),
    "did_win": _w("Did {name} win the race?", "Was {name} the winner?",
                  held="Is it true that {name} won the race?"),
    "wrong_with": _w("What was wrong with {friend}?", "What was the matter with {friend}?",
                     held="Tell me what was wrong with {friend}."),
    "carried": _w("What did {name} bring to {friend}?", "What did {name} carry?",
                  held="Which thing did {name} bring to {friend}?"),
    "why_went": _w("Why did {name} go to {friend}?", "Why did {name} visit {friend}?",
                   held="For what reason did {name} go to {friend}?"),
    "weather": _w("What was the weather like?", "What came on the way?",
                  held="Which weather was there on the way?"),
    "rested": _w("Where did {name} rest?", "Where did {name} have a rest?",
                 held="In which place did {name} rest?"),
    "seed_from": _w("Who gave the seed to {name}?", "Who gave {name} a seed?",
                    held="From whom did {name} get the seed?"),
    "planted_where": _w("Where did {name} plant the seed?", "Where was the seed planted?",
                        held="In which place did {name} plant the seed?"),
    "days": _w("How long did it take until something came up?",
               "After how many days did something green come up?",
               held="How much time went by until something green came up?"),
    "grew": _w("What grew from the seed?", "What did the seed become?",
               held="Tell me what grew from the seed."),
    "could_not": _w("What could {name} not do?", "What was it that {name} could not do?",
                    held="Tell me what {name} could not do."),
    "tries": _w("How many times did {name} try?", "How often did {name} try?",
                held="What number of times did {name} try?"),
    "sat": _w("Where did {name} sit down?", "Where was {name} sitting?",
              held="In which place did {name} sit down?"),
    "teacher": _w("Who showed {name} how to {skill}?", "Who taught {name} to {skill}?",
                  held="From whom did {name} learn to {skill}?"),
    "learned": _w("What did {name} learn?", "What did {name} learn to do?",
                  held="Tell me what {name} learned."),
    "fear": _w("What was {name} afraid of?", "What did {name} fear?",
               held="Tell me what {name} was afraid of."),
    "hid": _w("Where did {name} hide?", "Where was {name} hiding?",
              held="In which place did {name} hide?"),
    "found_by": _w("Who found {name}?", "Who talked with {name}?",
                   held="By whom was {name} found?"),
    "build": _w("What did {name} want to build?", "What did they build?",
                held="Tell me what {name} wanted to build."),
    "brought": _w("What did {name} bring?", "What did {name} bring along?",
                  held="Tell me what {name} brought."),
    "built_where": _w("Where did they build the {thing}?", "Where was the {thing} built?",
                      held="In which place did they build the {thing}?"),
    "storm": _w("What broke {it}?", "What took {it} down?",
                held="Tell me what broke {it}."),
    "order": _w("What happened first: {one}, or {two}?", "What came first: {one}, or {two}?",
                held="Which was earlier: {one}, or {two}?"),
}  # fmt: skip

HERO = _w("Who is the story about?", "Who was the story about?", "Who is the hero of the story?",
          held="Tell me who the story is about.")  # fmt: skip


def questions(draw: Draw, story: Story, count: int) -> list[tuple[str, str]]:
    """So many different questions about the story, each with its answer."""
    hero = Fact("hero", story.hero.full + ".", {})
    facts = [*story.facts, hero]
    if len(story.events) > 1:
        early, late = sorted(draw.some(range(len(story.events)), 2))
        pair = [story.events[early], story.events[late]]
        answer = upper_first(pair[0]) + "."
        if draw.chance(0.5):
            pair.reverse()
        facts += 2 * [Fact("order", answer, {"one": pair[0], "two": pair[1]})]
    chosen: list[tuple[str, str, str]] = []
    for fact in draw.some(facts, len(facts)):
        wordings = HERO if fact.kind == "hero" else ASKED[fact.kind]
        if len(chosen) < count and fact.kind not in [kind for kind, _, _ in chosen]:
            chosen.append((fact.kind, draw.word(wordings).format(**fact.slots), fact.answer))
    return [(question, answer) for _, question, answer in chosen]
