"""Clauses with one known opinion each: about an aspect, about the product, or none."""

from typing import Literal

from api.sample_data import vocabulary as words
from api.sample_data.draw import SeededRandom
from api.sample_data.vocabulary import Aspect, Product

Polarity = Literal[1, -1]


def opposite(polarity: Polarity) -> Polarity:
    return -1 if polarity == 1 else 1


def be(plural: bool, *, past: bool = False) -> str:
    return ("were" if plural else "was") if past else ("are" if plural else "is")


def article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def described(word: str, aspect: Aspect) -> str:
    """Return the aspect with an adjective and the article it needs.

    Examples: "a sharp camera", "rich coffee", "soft straps".
    """
    return f"{word if aspect.plural or aspect.mass else article(word)} {aspect.noun}"


def adjective(draw: SeededRandom, polarity: Polarity, aspect: Aspect | None = None) -> str:
    """Return a word of praise or blame; with probability 0.5 one that belongs to the aspect."""
    if aspect and draw.chance(0.5):
        return draw.pick(aspect.good if polarity == 1 else aspect.bad)
    return draw.pick(words.GOOD if polarity == 1 else words.BAD)


def choose_aspect(draw: SeededRandom, product: Product, besides: Aspect | None = None) -> Aspect:
    pool = [aspect for aspect in (*product.aspects, *words.SERVICE) if aspect is not besides]
    return draw.pick(pool)


def quality(draw: SeededRandom, polarity: Polarity, aspect: Aspect | None) -> str:
    """Return what follows "is": a plain word, a strengthened one, or a negated opposite.

    An example of the last form is "not bad at all".
    """
    form = draw.weighted({"plain": 5, "strong": 3, "negated": 1.2})
    if form == "plain":
        return adjective(draw, polarity, aspect)
    if form == "strong":
        return f"{draw.pick(words.ADVERBS)} {adjective(draw, polarity, aspect)}"
    word = adjective(draw, opposite(polarity), aspect)
    return draw.pick((f"not {word}", f"not {word} at all", f"far from {word}", f"anything but {word}", f"never {word}"))


def opinion(draw: SeededRandom, polarity: Polarity, aspect: Aspect, *, with_verb: bool = False) -> str:
    """Return a clause that praises (1) or blames (-1) the aspect.

    `with_verb` excludes clauses without a verb, such as "great screen".
    """
    clipped = 0.0 if with_verb else 1.0
    fated = 0.0 if aspect in words.SERVICE else 1.0
    form = draw.weighted({"is": 6.0, "feel": 2.0, "noun": 2.0 * clipped, "idiom": 1.5 * clipped, "fate": fated})
    the = f"the {aspect.noun}"
    if form == "is":
        return f"{the} {be(aspect.plural)} {quality(draw, polarity, aspect)}"
    if form == "feel":
        mine, other = (words.LIKES, words.DISLIKES) if polarity == 1 else (words.DISLIKES, words.LIKES)
        if draw.chance(0.15):
            return f"I cannot say that I {draw.pick(other)} {the}"
        return f"I {draw.pick(mine)} {the}"
    if form == "noun":
        word = adjective(draw, polarity, aspect)
        return f"{word} {aspect.noun}" if draw.chance(0.5) else f"I got {described(word, aspect)}"
    if form == "fate":
        return f"{the} {draw.pick(words.LASTS if polarity == 1 else words.BREAKS)} after {draw.pick(words.SPANS)}"
    if polarity == 1:
        return draw.pick((f"no complaints about {the}", f"nothing wrong with {the}", f"{the} did not let me down"))
    return draw.pick((f"nothing good about {the}", f"{the} let me down", f"no praise for {the} from me"))


def verdict(draw: SeededRandom, polarity: Polarity, product: Product) -> str:
    """Return a clause that praises (1) or blames (-1) the whole product."""
    subject = f"the {product.noun}" if product.plural or draw.chance(0.6) else "it"
    form = draw.weighted({"is": 5, "act": 3, "worth": 2})
    if form == "is":
        return f"{subject} {be(product.plural)} {quality(draw, polarity, None)}"
    if form == "act":
        denied = draw.chance(0.2)
        act = draw.pick(words.RECOMMENDS if (polarity == 1) != denied else words.REJECTS)
        return f"I {'do not think that I ' if denied else ''}{act.format(it='them' if product.plural else 'it')}"
    return f"{subject} {be(product.plural)} {'worth' if polarity == 1 else 'not worth'} the money"


def plain(draw: SeededRandom, product: Product) -> str:
    """Return a clause without an opinion: a fact or an indifferent remark."""
    aspect = choose_aspect(draw, product)
    the, verb = f"the {aspect.noun}", be(aspect.plural)
    it, pronoun_verb = ("they", "were") if product.plural else ("it", "was")
    forms = (
        f"I bought the {product.noun} {draw.pick(words.SHOPS)}",
        f"the {product.noun} {be(product.plural, past=True)} a gift for my {draw.pick(words.PEOPLE)}",
        f"{it} {pronoun_verb} delivered on {draw.pick(words.DAYS)}",
        f"my {draw.pick(words.PEOPLE)} has the same {product.noun}",
        f"I chose the {draw.pick(words.COLOURS)} one, my {draw.pick(words.PEOPLE)} has the {draw.pick(words.COLOURS)} one",
        f"I have had the {product.noun} for {draw.pick(words.SPANS)}",
        f"we use the {product.noun} every {draw.pick(words.DAYS)}",
        f"{the} {verb} {draw.pick(words.PLAIN)}",
        f"{the} {verb} {draw.pick(words.PLAIN)}, nothing more",
        f"{the} {verb} about what I expected",
        f"I have no strong feelings about {the}",
    )
    return draw.pick(forms)
