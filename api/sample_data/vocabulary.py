"""The vocabulary: products, the words for their parts, and the usual phrases of a review."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Aspect:
    """A part of a product, with its words of praise and of blame. `mass` nouns take no "a"."""

    noun: str
    good: tuple[str, ...]
    bad: tuple[str, ...]
    plural: bool = False
    mass: bool = False


@dataclass(frozen=True, slots=True)
class Product:
    noun: str
    aspects: tuple[Aspect, ...]
    plural: bool = False


def _aspect(noun: str, good: str, bad: str, *, plural: bool = False, mass: bool = False) -> Aspect:
    return Aspect(noun, tuple(good.split()), tuple(bad.split()), plural, mass)


PRODUCTS = (
    Product(
        "phone",
        (
            _aspect("screen", "bright sharp vivid responsive", "dim blurry scratched dull"),
            _aspect("battery", "reliable strong durable", "weak faulty useless"),
            _aspect("camera", "sharp clear quick", "grainy slow blurry"),
            _aspect("speaker", "loud clear rich", "tinny quiet crackly"),
        ),
    ),
    Product(
        "headphones",
        (
            _aspect("sound", "crisp warm rich balanced", "muffled tinny flat harsh", mass=True),
            _aspect("ear pads", "soft comfortable roomy", "scratchy stiff tight", plural=True),
            _aspect("microphone", "clear sensitive", "muffled noisy"),
            _aspect("bluetooth connection", "stable instant solid", "unstable choppy patchy"),
        ),
        plural=True,
    ),
    Product(
        "laptop",
        (
            _aspect("keyboard", "quiet comfortable responsive", "mushy noisy sticky"),
            _aspect("display", "bright crisp vivid", "washed-out dim grainy"),
            _aspect("fan", "quiet silent", "loud noisy whiny"),
            _aspect("hinge", "sturdy solid smooth", "wobbly loose flimsy"),
        ),
    ),
    Product(
        "coffee maker",
        (
            _aspect("coffee", "hot rich smooth tasty", "bitter lukewarm watery", mass=True),
            _aspect("water tank", "roomy sturdy", "leaky tiny cracked"),
            _aspect("controls", "simple intuitive", "confusing clumsy fiddly", plural=True),
            _aspect("jug", "sturdy elegant", "drippy fragile"),
        ),
    ),
    Product(
        "vacuum cleaner",
        (
            _aspect("suction", "strong powerful steady", "weak feeble patchy", mass=True),
            _aspect("hose", "flexible long sturdy", "stiff short brittle"),
            _aspect("filter", "washable effective", "clogged useless"),
            _aspect("motor", "quiet powerful", "loud smelly weak"),
        ),
    ),
    Product(
        "backpack",
        (
            _aspect("zippers", "smooth sturdy", "jammed broken flimsy", plural=True),
            _aspect("straps", "padded comfortable soft", "scratchy thin painful", plural=True),
            _aspect("fabric", "durable waterproof tough", "thin leaky cheap"),
            _aspect("laptop pocket", "roomy padded snug", "cramped shallow flimsy"),
        ),
    ),
    Product(
        "running shoes",
        (
            _aspect("soles", "grippy bouncy durable", "slippery worn hard", plural=True),
            _aspect("fit", "snug perfect comfortable", "tight loose painful"),
            _aspect("cushioning", "soft springy", "flat hard", mass=True),
            _aspect("laces", "sturdy handy", "frayed short", plural=True),
        ),
        plural=True,
    ),
    Product(
        "office chair",
        (
            _aspect("seat", "comfortable soft roomy", "hard lumpy uncomfortable"),
            _aspect("backrest", "supportive ergonomic", "wobbly creaky stiff"),
            _aspect("armrests", "adjustable padded", "loose crooked", plural=True),
            _aspect("assembly", "quick simple painless", "tedious confusing painful", mass=True),
        ),
    ),
    Product(
        "app",
        (
            _aspect("interface", "clean intuitive modern", "cluttered confusing dated"),
            _aspect("search", "fast accurate", "slow broken"),
            _aspect("sync", "instant seamless reliable", "unreliable laggy broken", mass=True),
            _aspect("login", "quick painless", "buggy annoying"),
        ),
    ),
    Product(
        "kettle",
        (
            _aspect("lid", "tight solid", "loose stiff"),
            _aspect("handle", "cool comfortable sturdy", "hot wobbly slippery"),
            _aspect("heating", "fast quiet", "slow noisy", mass=True),
            _aspect("spout", "precise tidy", "drippy messy"),
        ),
    ),
    Product(
        "jacket",
        (
            _aspect("lining", "warm soft cosy", "itchy thin torn"),
            _aspect("pockets", "deep handy", "tiny useless", plural=True),
            _aspect("stitching", "neat sturdy", "sloppy loose", mass=True),
            _aspect("hood", "roomy snug", "floppy tight"),
        ),
    ),
    Product(
        "router",
        (
            _aspect("signal", "strong stable steady", "weak patchy unstable"),
            _aspect("setup", "simple quick painless", "confusing tedious"),
            _aspect("speed", "consistent impressive", "erratic disappointing", mass=True),
            _aspect("firmware", "stable solid", "buggy unfinished", mass=True),
        ),
    ),
)

SERVICE = (
    _aspect("delivery", "fast punctual careful", "late slow careless", mass=True),
    _aspect("customer service", "helpful friendly prompt", "rude unhelpful slow", mass=True),
    _aspect("packaging", "neat sturdy", "damaged sloppy", mass=True),
    _aspect("price", "fair reasonable", "steep outrageous"),
    _aspect("manual", "clear thorough", "confusing incomplete"),
)

GOOD = (
    "good",
    "great",
    "excellent",
    "fantastic",
    "superb",
    "wonderful",
    "brilliant",
    "impressive",
    "lovely",
    "perfect",
    "outstanding",
    "solid",
)
BAD = (
    "bad",
    "poor",
    "terrible",
    "awful",
    "horrible",
    "dreadful",
    "disappointing",
    "useless",
    "lousy",
    "pathetic",
    "mediocre",
    "shoddy",
)
PLAIN = ("okay", "average", "ordinary", "acceptable", "fine", "standard", "passable", "unremarkable")

LIKES = ("love", "like", "adore", "enjoy", "really like", "am happy with", "am pleased with", "am impressed by")
DISLIKES = ("hate", "dislike", "regret", "despise", "am unhappy with", "am tired of", "am annoyed by")
RECOMMENDS = ("would recommend {it}", "would buy {it} again", "would gift {it} to a friend")
REJECTS = ("would return {it}", "would avoid {it}", "want to send {it} back")

BREAKS = ("broke", "died", "stopped working", "fell apart", "gave up", "failed")
LASTS = ("held up", "still works", "survived", "kept going", "never failed me")

ADVERBS = ("really", "quite", "truly", "just", "simply", "surprisingly", "pretty", "consistently")
PEOPLE = ("wife", "husband", "brother", "sister", "neighbour", "colleague", "son", "daughter", "father", "mother", "flatmate")
SPANS = ("two days", "a week", "three weeks", "a month", "two months", "half a year", "a year", "ten days")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLOURS = ("black", "grey", "white", "blue", "green", "red", "silver")
SHOPS = ("online", "in a shop", "second hand", "at the sale", "from the web store", "during the holidays")

OPENERS = (
    "honestly",
    "to be fair",
    "update after {span}",
    "my verdict",
    "in short",
    "so far",
    "after {span}",
    "long story short",
    "first impression",
    "to sum up",
)
