"""Made-up short messages: advertising and fraud among ordinary ones, with links and wrong labels.

Both kinds share their words: prices, links, times and thanks stand in both. A twentieth of the
labels is wrong.
"""

import random

from tests.benchmarks.labelled_sets.set import LabelledSet, Sample, split

_NAMES = ("Anna", "Ben", "Chen", "Dora", "Emil", "Fatma", "Goran", "Hana", "Ivan", "June")
_THINGS = ("ticket", "parcel", "account", "phone", "photo", "order", "table", "lesson", "invoice", "bike")
_PLACES = ("shop", "bank", "station", "office", "cinema", "market", "school", "library")
_HAM = (
    "hi {name}, i left the {thing} at the {place}, can you bring it at {n}?",
    "the {thing} cost {n} euros at the {place}, not free as {name} said",
    "{name} won the race! call me when you read this",
    "did you get my {thing}? the link is https://{place}.example.org/{thing}/{n}",
    "your {thing} is ready at the {place}, open until {n}, thanks",
    "no, i do not want to claim the {thing}, {name} can have it",
)
_SPAM = (
    "{name}, you won a {thing}! claim it now at http://{place}{n}.example.com/win",
    "your {thing} is on hold, confirm your {place} account: www.{place}-{thing}.example.net/{n}",
    "free {thing} for {n} euros only today at the {place}, reply YES",
    "the {place} has left a {thing} for you. call {n}{n} to claim, not urgent? it ends today",
    "hi, it is {name} from the {place}, i need {n} euros for my {thing}, send it now thanks",
    "last call: {n} % off each {thing}, do not miss it {name}",
)


def spam(training: int, test: int) -> LabelledSet:
    draw = random.Random(3)
    made: dict[str, str] = {}
    while len(made) < training + test:
        label = draw.choice(("ham", "spam"))
        parts = {"name": draw.choice(_NAMES), "thing": draw.choice(_THINGS), "place": draw.choice(_PLACES)}
        text = draw.choice(_SPAM if label == "spam" else _HAM).format(**parts, n=draw.randrange(5, 900))
        wrong = draw.random() < 0.05
        made[text] = {"ham": "spam", "spam": "ham"}[label] if wrong else label
    samples: list[Sample] = list(made.items())
    return split("spam, made up", samples, training, test)
