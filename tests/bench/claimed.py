"""What others claim of their methods: each sentence, the number it comes to, and the bound that makes it true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.stats.analysis import Estimate
from tests.bench.worlds import World, apart

DEFENCE, RISING = "lora+adapter+ewc+mix", 'mix(schedule="15->30")'


@dataclass(frozen=True)
class Claim:
    """Somebody's sentence, the number it comes to, and the bound that makes it true."""

    text: str
    source: str
    quantity: str
    """What the number is, with its unit."""
    bound: float
    """The claim holds where the number is at least this."""
    measure: Callable[[World], Estimate | float | None]
    beside: tuple[str, ...]
    """Recipes whose kept and gained stand beside it."""
    note: str = ""
    seeded: bool = True
    """Whether another seed may give another number; what a method costs does not depend on it."""


def _level(world: World, recipe: str) -> Estimate:
    assert world.main.analysis is not None
    base = 100 * float(world.main.analysis.measures.query("headline and group == 'domain'")["base"].mean())
    gain = world.main.estimate("gain", world.row(recipe))
    return Estimate(base + gain.value, base + gain.low, base + gain.high, gain.se, gain.n)


def _less_repetition(world: World) -> Estimate:
    found = world.over("nlirg", quantity="level:rep3_word:general")
    return Estimate(-100 * found.value, -100 * found.high, -100 * found.low, 100 * found.se, found.n)


def _dirt(world: World) -> Estimate | None:
    if world.clean is None:
        return None
    return apart(world.over("nlirg", quantity="gain"), world.clean.difference("gain", "nlirg", "sft"))


def _longer(world: World, quantity: str) -> Estimate:
    """Plain fine-tuning minus the same for longer."""
    if world.long is None:
        raise KeyError("trained for longer")
    return apart(world.main.estimate(quantity, world.row("sft")), world.long.estimate(quantity, "sft"))


def _speed(world: World, recipe: str) -> float:
    return world.cost(recipe, "epochs") / world.cost(recipe, "device seconds")


ABOVE_PLAIN = "points of general score above `sft`"
ARTICLES = "articles about NLIRG; no model, data, baseline or protocol is given"
PRACTICE = "advice in circulation, no protocol given"
CLAIMS = (
    Claim(
        "NLIRG keeps 79.1 % of general ability", ARTICLES, "kept, %", 79.1, lambda w: w.keeps("nlirg"),
        ("nlirg", "nlirg(norm=faithful)", "nlirg(scale=quantile)", "nlirg(variant=article)", "sft"),
    ),
    Claim(
        "NLIRG reaches 89.3 % in the domain", ARTICLES, "domain score, %", 89.3, lambda w: _level(w, "nlirg"),
        (), "The interval is the gain's.",
    ),
    Claim(
        "NLIRG forgets less than plain fine-tuning", ARTICLES, "points of general score above `sft`", 0.0,
        lambda w: w.over("nlirg"), (),
    ),
    Claim(
        "... and that comes from which tokens it weighs", "our negative control: its weights dealt at random",
        "points above `nlirg(shuffled=True)`", 0.0, lambda w: w.over("nlirg", "nlirg(shuffled=True)"),
        ("nlirg(shuffled=True)",),
    ),
    Claim(
        "NLIRG cuts repetition", ARTICLES, "rep-3 on general prompts, hundredths below `sft`", 0.0,
        _less_repetition, (),
    ),
    Claim(
        "NLIRG steadies training", ARTICLES, "loss variance of `sft` over NLIRG's", 1.0,
        lambda w: w.cost("sft", "loss variance") / w.cost("nlirg", "loss variance"), (),
        "Each run's own reported loss after warm-up; NLIRG's is a weighted mean, so that part of the difference is the scale.",
    ),
    Claim(
        "NLIRG gains most on dirty data", ARTICLES, "gain over `sft`, points: with 8 % wrong answers minus without", 0.0,
        _dirt, (),
    ),
    Claim(
        "A smaller token_batch forgets less", ARTICLES, "points, token_batch 4 above 16", 0.0,
        lambda w: w.over("nlirg(token_batch=4)", "nlirg(token_batch=16)"), ("nlirg(token_batch=4)", "nlirg(token_batch=16)"),
        "At one learning rate and equal FLOPs: smaller windows make more updates but see less data.",
    ),
    Claim("LoRA keeps over 95 %", PRACTICE, "kept, %", 95.0, lambda w: w.keeps("lora"), ("lora",)),
    Claim("LoRA halves forgetting", PRACTICE, "loss avoided, %", 50.0, lambda w: w.avoided("lora"), ()),
    Claim(
        "LoRA saves 70 % of the memory", PRACTICE, "peak memory saved, %", 70.0,
        lambda w: 100 * (1 - w.cost("lora", "peak memory bytes") / w.cost("sft", "peak memory bytes")), (),
        "Peak of the whole process on a CPU: for models this small nearly all of it is the interpreter and its libraries.",
        seeded=False,
    ),
    Claim(
        "LoRA is twice as fast", PRACTICE, "epochs a second over plain fine-tuning's", 2.0,
        lambda w: _speed(w, "lora") / _speed(w, "sft"), (), "Seconds of shared CPU cores; in FLOPs the limit is 1.5.",
    ),
    Claim("EWC cuts forgetting by 60 %", PRACTICE, "loss avoided, %", 60.0, lambda w: w.avoided("ewc"), ("ewc", "ewc+replay")),
    Claim(
        "Mixing 15 % keeps 92 of 95", PRACTICE, "kept, %", 100 * 92 / 95, lambda w: w.keeps("mix"),
        ("mix", "mix+lora", "replay", "nlirg+replay+lora"),
    ),
    Claim(
        "Mixing 30 % keeps 92 of 95", PRACTICE, "kept, %", 100 * 92 / 95, lambda w: w.keeps("mix(ratio=0.3)"),
        ("mix(ratio=0.3)",),
    ),
    Claim(
        "A mixing ratio that rises adds 15 %", PRACTICE, "points above the fixed ratio of equal amount", 15.0,
        lambda w: w.over(RISING, "mix(ratio=0.225)"), (RISING, "mix(ratio=0.225)"),
    ),
    Claim(
        "Distillation keeps 3 points more", PRACTICE, "points above `sft`", 3.0, lambda w: w.over("distill"),
        ("distill", "distill+freeze"),
    ),
    Claim("Adapters keep 3 points more", PRACTICE, "points above `sft`", 3.0, lambda w: w.over("adapter"), ("adapter",)),
    Claim(
        "Distillation doubles compute", PRACTICE, "FLOPs an epoch over plain fine-tuning's", 2.0,
        lambda w: w.cost("sft", "epochs") / w.cost("distill", "epochs"), (),
        "Both spend the same FLOPs; a teacher's forward adds a third (8N for 6N).", seeded=False,
    ),
    Claim(
        "The combined defence loses at most 3 points where plain fine-tuning loses 40", PRACTICE, "points of general score",
        -3.0, lambda w: w.change(DEFENCE), (DEFENCE,),
    ),
    Claim(
        "More than 2 to 4 epochs is worse", PRACTICE, "general score above that of training longer, points", 0.0,
        lambda w: _longer(w, "change"), (),
    ),
    Claim(
        "... and gains nothing", PRACTICE, "gain above that of training longer, points", 0.0,
        lambda w: _longer(w, "gain"), (),
    ),
    Claim(
        "Mixed order beats easy to hard", "y-trainer's guide", "gain above easy first, points", 0.0,
        lambda w: w.over("sort(order=mixed)", "sort(order=easy)", "gain"),
        ("sort(order=mixed)", "sort(order=easy)", "sort(order=hard)"),
    ),
    Claim(
        "Regularisers protect less than adapters", PRACTICE, "points, `lora` above the best of `ewc`, `l2sp`, `kl`", 0.0,
        lambda w: w.over("lora", max(("ewc", "l2sp", "kl"), key=lambda name: w.change(name).value)), ("l2sp", "kl"),
        "At their default strengths; the gains differ, and keeping by not learning is no protection.",
    ),
    Claim(
        "Self-distillation on the model's own answers forgets less", "arXiv:2601.19897, at equal steps",
        "points of general score above `sft`, at one budget", 0.0, lambda w: w.over("sdft"), ("sdft", "self_sft"),
        "The teacher must learn from an example in its prompt, which models this small hardly do.",
    ),
    Claim(
        "Rotations keep more than low-rank adapters", "PEFT-Arena, arXiv:2605.28819", "points, `oft` above `lora`", 0.0,
        lambda w: w.over("oft", "lora"), ("oft", "osf", "lora"),
    ),
    Claim(
        "Adapters on the top singular directions forget more", "PEFT-Arena, arXiv:2605.28819",
        "points, `lora` above `pissa`", 0.0, lambda w: w.over("lora", "pissa"), ("pissa", "milora", "oplora", "keeplora"),
    ),
    Claim(
        "Columns that matter for general inputs are worth freezing", "arXiv:2512.04844",
        "points, `ssu` above as many random columns", 0.0, lambda w: w.over("ssu", "ssu(by=random)"),
        ("ssu", "ssu(by=random)", "random_half"),
    ),
    Claim(
        "Easy records weighed up forget less", "arXiv:2502.02797", "points of general score above `sft`", 0.0,
        lambda w: w.over("flow"), ("flow", "stm"),
    ),
    Claim(
        "A rate that falls with the loss avoids 93 % of forgetting", "arXiv:2605.20005", "loss avoided, %", 93.0,
        lambda w: w.avoided("finch"), ("finch", "mofo"),
    ),
    Claim(
        "Noise taken out of the change gives general ability back", "arXiv:2605.20296",
        "points of general score above `sft`", 0.0, lambda w: w.over("dghard"), ("dghard", "ties", "dare", "lines", "wise"),
    ),
    Claim(
        "Interpolation with the base recovers general ability", "PEFT-Arena, arXiv:2605.28819", ABOVE_PLAIN, 0.0,
        lambda w: w.over("wise"), ("wise", "interpolate"), "`interpolate` chooses its strength on dev items.",
    ),
    Claim(
        "Shallow layers taken back prevent forgetting", "arXiv:2410.17146", ABOVE_PLAIN, 0.0, lambda w: w.over("lines"),
        ("lines", "interpolate"),
    ),
    Claim(
        "Most of the change can be dropped at no loss", "arXiv:2311.03099", "gain above `sft`, points", 0.0,
        lambda w: w.over("dare", quantity="gain"), ("dare", "ties"),
    ),
    Claim(
        "What the base says of a text with its beginning keeps more than the text itself", "arXiv:2602.16093", ABOVE_PLAIN,
        0.0, lambda w: w.over("context_distill"), ("context_distill",),
        "Made for plain texts (MODE=cpt); on conversations a and b are parts of the answers.",
    ),
    Claim(
        "An anchor to the base steadies dynamic fine-tuning", "arXiv:2509.23753", "points of general score above `dft`", 0.0,
        lambda w: w.over("asft", "dft"), ("asft", "dft"),
    ),
    Claim(
        "The model's own answers as targets forget less", "arXiv:2402.13669", ABOVE_PLAIN, 0.0, lambda w: w.over("self_sft"),
        ("self_sft",),
    ),
    Claim(
        "Tokens that surprise the base, left out, forget less", "arXiv:2501.14315", ABOVE_PLAIN, 0.0, lambda w: w.over("stm"),
        ("stm",),
    ),
    Claim(
        "Steps where the momentum is largest forget less", "arXiv:2407.20999", ABOVE_PLAIN, 0.0, lambda w: w.over("mofo"),
        ("mofo",),
    ),
    Claim(
        "Half of the parameters at a time forgets less", "arXiv:2404.18466", ABOVE_PLAIN, 0.0, lambda w: w.over("hft"),
        ("hft",),
    ),
    Claim(
        "A few layers at a time learn more than LoRA", "arXiv:2403.17919", "gain above `lora`, points", 0.0,
        lambda w: w.over("lisa", "lora", "gain"), ("lisa", "lora"),
    ),
    Claim(
        "Training in the small singular directions alone forgets less than LoRA", "arXiv:2504.07097",
        "points, `osf` above `lora`", 0.0, lambda w: w.over("osf", "lora"), ("osf",),
    ),
    Claim(
        "Adapters on the small singular directions learn more than LoRA", "arXiv:2406.09044", "gain above `lora`, points", 0.0,
        lambda w: w.over("milora", "lora", "gain"), ("milora",),
    ),
    Claim(
        "Adapters that begin where general inputs are least forget less", "arXiv:2406.05223", "points, `corda` above `lora`",
        0.0, lambda w: w.over("corda", "lora"), ("corda",),
    ),
    Claim(
        "Adapters in the null space of general inputs forget less", "arXiv:2503.02659", "points, `lora_null` above `lora`",
        0.0, lambda w: w.over("lora_null", "lora"), ("lora_null",),
    ),
    Claim(
        "Adapters kept off the top singular directions forget less", "arXiv:2510.13003", "points, `oplora` above `lora`", 0.0,
        lambda w: w.over("oplora", "lora"), ("oplora",),
    ),
    Claim(
        "Adapters kept off the base's subspace and its inputs' forget less", "PEFT-Arena, arXiv:2605.28819",
        "points, `keeplora` above `lora`", 0.0, lambda w: w.over("keeplora", "lora"), ("keeplora",),
    ),
    Claim(
        "A gradient that never points against general data's forgets less", "arXiv:1812.00420", ABOVE_PLAIN, 0.0,
        lambda w: w.over("a_gem"), ("a_gem",),
    ),
)  # fmt: skip
