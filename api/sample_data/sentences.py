"""Sentences whose label depends on the order of their clauses, not only on the words.

The main clause decides the label. It is the clause:

- after "but",
- outside "although",
- about the present, not the past,
- about this product, not another one,
- by the writer, not by another person.

With two clauses swapped, the same words mean the opposite.
"""

from collections.abc import Callable, Mapping

from api.sample_data import vocabulary as words
from api.sample_data.clauses import Polarity, adjective, be, choose_aspect, described, opinion, opposite, plain, verdict
from api.sample_data.draw import SeededRandom
from api.sample_data.vocabulary import Product

Build = Callable[[SeededRandom, Polarity, Product], str]


def single(draw: SeededRandom, polarity: Polarity, product: Product) -> str:
    if draw.chance(0.35):
        return verdict(draw, polarity, product)
    return opinion(draw, polarity, choose_aspect(draw, product))


def agreeing(draw: SeededRandom, polarity: Polarity, product: Product) -> str:
    first = choose_aspect(draw, product)
    second = choose_aspect(draw, product, first)
    link = draw.pick((" and ", ", and ", ", also ", ". "))
    return f"{opinion(draw, polarity, first)}{link}{opinion(draw, polarity, second)}"


def with_fact(draw: SeededRandom, polarity: Polarity, product: Product) -> str:
    parts = draw.shuffled((plain(draw, product), single(draw, polarity, product)))
    return ". ".join(parts)


def contrast(draw: SeededRandom, polarity: Polarity, product: Product) -> str:
    """The clause after "but" has the label."""
    first = choose_aspect(draw, product)
    second = choose_aspect(draw, product, first)
    left = opinion(draw, opposite(polarity), first)
    right = verdict(draw, polarity, product) if draw.chance(0.3) else opinion(draw, polarity, second)
    return f"{left}{draw.pick((' but ', ', but ', ', but still ', ', however '))}{right}"


def concession(draw: SeededRandom, polarity: Polarity, product: Product) -> str:
    """The clause after "although" does not count; the other clause has the label."""
    first = choose_aspect(draw, product)
    second = choose_aspect(draw, product, first)
    given = opinion(draw, opposite(polarity), first, with_verb=True)
    held = verdict(draw, polarity, product) if draw.chance(0.3) else opinion(draw, polarity, second)
    word = draw.pick(("although", "even though", "though"))
    return f"{word} {given}, {held}" if draw.chance(0.5) else f"{held}, {word} {given}"


def then_and_now(draw: SeededRandom, polarity: Polarity, product: Product) -> str:
    aspect = choose_aspect(draw, product)
    before, now = adjective(draw, opposite(polarity), aspect), adjective(draw, polarity, aspect)
    the, was, is_ = f"the {aspect.noun}", be(aspect.plural, past=True), be(aspect.plural)
    forms = (
        f"{the} {was} {before} at first, now {is_} {now}",
        f"{the} {is_} {now} now, {was} {before} at first",
        f"{the} went from {before} to {now}",
        f"{the} used to be {before} and {is_} {now} these days",
        f"{the} {is_} {now} these days and used to be {before}",
        f"I expected {described(before, aspect)} and got {described(now, aspect)}",
        f"I got {described(now, aspect)} where I expected {described(before, aspect)}",
    )
    return draw.pick(forms)


def comparison(draw: SeededRandom, polarity: Polarity, product: Product) -> str:
    aspect = draw.pick(product.aspects)
    old, new = adjective(draw, opposite(polarity), aspect), adjective(draw, polarity, aspect)
    one = "these" if product.plural else "this one"
    mine, the, is_ = f"my old {product.noun}", f"the {aspect.noun}", be(aspect.plural)
    better = draw.pick(("better", "far better", "much better"))
    forms = (
        f"{the} {is_} {new} here and {is_} {old} on {mine}",
        f"{the} {is_} {old} on {mine} and {is_} {new} here",
        f"{the} of {one} {is_} {better} than on {mine}" if polarity == 1 else f"{the} on {mine} {is_} {better} than of {one}",
        f"I prefer {one} to {mine}" if polarity == 1 else f"I prefer {mine} to {one}",
    )
    return draw.pick(forms)


def hearsay(draw: SeededRandom, polarity: Polarity, product: Product) -> str:
    aspect = choose_aspect(draw, product)
    theirs, mine = adjective(draw, opposite(polarity), aspect), adjective(draw, polarity, aspect)
    who, the, verb = draw.pick(words.PEOPLE), f"the {aspect.noun}", be(aspect.plural)
    forms = (
        f"my {who} calls {the} {theirs}, I call it {mine}",
        f"I call {the} {mine}, my {who} calls it {theirs}",
        f"my {who} says that {the} {verb} {theirs}, I find it {mine}",
        f"I find {the} {mine}, my {who} says that it is {theirs}",
        f"reviews said {theirs}, I say {mine}",
        f"I say {mine}, reviews said {theirs}",
    )
    return draw.pick(forms)


def regret(draw: SeededRandom, polarity: Polarity, product: Product) -> str:
    """The sentence names a wish or a fear that did not come true."""
    aspect = choose_aspect(draw, product)
    other, the, verb = adjective(draw, opposite(polarity), aspect), f"the {aspect.noun}", be(aspect.plural)
    if polarity == -1:
        return draw.pick(
            (
                f"I wish {the} were {other}",
                f"I hoped for {described(other, aspect)} in vain",
                f"if only {the} were {other}",
            )
        )
    return draw.pick(
        (
            f"I feared {described(other, aspect)} without reason",
            f"I was wrong to think {the} {verb} {other}",
            f"whoever says {the} {verb} {other} is wrong",
        )
    )


def indifferent(draw: SeededRandom, product: Product) -> str:
    """Return a neutral sentence: no opinion, an indifferent remark, or two balanced opinions."""
    form = draw.weighted({"plain": 6, "neither": 1.5, "balance": 1.5, "mixed": 1})
    if form == "plain":
        return plain(draw, product) if draw.chance(0.5) else f"{plain(draw, product)}. {plain(draw, product)}"
    aspect = choose_aspect(draw, product)
    other = choose_aspect(draw, product, aspect)
    good, bad = adjective(draw, 1, aspect), adjective(draw, -1, aspect)
    first, second = draw.shuffled((good, bad))
    the, verb = f"the {aspect.noun}", be(aspect.plural)
    if form == "neither":
        return draw.pick((f"{the} {verb} neither {first} nor {second}", f"{the} {verb} not {first} and not {second}"))
    if form == "mixed":
        return draw.pick(
            (f"{the} {verb} sometimes {first}, sometimes {second}", f"{the} {verb} {first} or {second}, depending on the day")
        )
    left, right = draw.shuffled((opinion(draw, 1, aspect), opinion(draw, -1, other)))
    end = draw.pick(("so it evens out", "three stars", "so I am undecided", "make of it what you will"))
    return f"{left}, {right}, {end}"


OPINIONATED: Mapping[Build, float] = {
    single: 36,
    agreeing: 20,
    with_fact: 20,
    contrast: 10,
    concession: 5,
    then_and_now: 3,
    comparison: 2,
    hearsay: 2,
    regret: 2,
}
