"""The tables of scripts/eval's report, from what `hybrid-lab eval` wrote."""

from evaluation import GATES, LLM, SLM, Evaluation
from figures import Ranking, at_share, interval, recovered, sign_test
from tables import Table, is_real, number

SHARES = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4]
FOUND = ["auc", *(f"at_{100 * share:.0f}" for share in SHARES)]
HEIGHTS = [("identical", "same"), ("pass", "rate")]
DELAYS = [0, 20, 80, 200]


class Run:
    """Sessions with one set of options: its evaluation, and what the options are."""

    def __init__(self, evaluation: Evaluation, hand_back: bool = False):
        self.evaluation, self.hand_back = evaluation, hand_back
        self.weights = [evaluation.ones, *evaluation.resamples()]
        slm, llm = evaluation.ways[SLM], evaluation.ways[LLM]
        self.gain = [llm.rate(w) - slm.rate(w) for w in self.weights]

    def shows_a_gap(self) -> bool:
        """Whether the cloud LLM passes more problems than the SLM, by more than chance. If not,
        pass@1 says nothing about gates and is left out."""
        return self.gain[0] > 0 and is_real(interval(self.gain[1:]))

    def heights(self) -> list:
        return HEIGHTS if self.shows_a_gap() else HEIGHTS[:1]

    def options(self, burst: int) -> list:
        return [str(burst), str(int(self.hand_back and burst > 1))]

    def curve(self, gate: str, burst: int, what: str, share: float) -> list:
        """The height of a gate's curve at a share: of all problems, then of every draw."""
        points = lambda w: self.evaluation.points(gate, what, w, burst)  # noqa: E731
        return [at_share(points(w), share) for w in self.weights]

    def way(self, heights: list, what: str) -> list:
        """Which part of the gap between the two models these close."""
        ends = [
            [getattr(self.evaluation.ways[key], what)(w) for w in self.weights]
            for key in (SLM, LLM)
        ]
        return [recovered(*values) for values in zip(*ends, heights)]


def with_interval(values: list) -> list:
    return [number(value) for value in (values[0], *interval(values[1:]))]


def point(value) -> str:
    """What was asked for: a share, the name of a rule, or nothing."""
    return number(value, 2) if isinstance(value, float) else value or ""


def setup(mbpp: Evaluation, alone: Evaluation, wide: Run, slm: str, live: dict) -> Table:
    passed = [alone.ways[key].passed for key in (SLM, LLM)]
    only_llm = sum(b and not a for a, b in zip(*passed))
    only_slm = sum(a and not b for a, b in zip(*passed))
    names = ("llm_gain", "llm_gain_low", "llm_gain_high")
    rows = [
        ["slm", slm],
        ["llm", mbpp.setup["llm"]],
        ["head", mbpp.setup["head"]],
        ["test_problems", mbpp.setup["available_prompts"]],
        ["validation_problems", mbpp.setup["validation_prompts"]],
        ["problems", len(wide.evaluation.ones)],
        ["tokens", alone.tokens],
        *zip(names, with_interval(Run(alone).gain)),
        ["only_llm", only_llm],
        ["only_slm", only_slm],
        ["p", f"{sign_test(only_llm, only_slm):.2g}"],
    ]
    if 0 in live:
        pace = Pace(live[0])
        rows.append(["step_ms", f"{1000 * pace.step:.1f}"])
        rows += [
            [f"consult_ms_{burst}", f"{1000 * s:.0f}"] for burst, s in sorted(pace.consults.items())
        ]
    return Table("setup", ["what", "value"], rows)


def sessions(runs: list) -> Table:
    rows = []
    for run in runs:
        made, told = run.evaluation, run.evaluation.setup
        for key, sum_ in made.sums.items():
            way, burst = made.ways[key], key[2]
            passes = (
                with_interval([way.rate(w) for w in run.weights]) if run.shows_a_gap() else [""] * 3
            )
            rows.append(
                [
                    len(made.ones),
                    sum_["gate"],
                    point(key[1]),
                    *run.options(burst),
                    told.get("rescue") or 0,
                    told.get("corrections") or 0,
                    number(sum_["obtained"]),
                    *passes,
                    sum_["identical"],
                    number(sum_["agreement"], 2),
                    sum_["consults"],
                    sum_["prompt_tokens"],
                    sum_.get("answer_tokens", ""),
                ]
            )
    head = ["problems", "gate", "asked", "burst", "hand_back", "rescue", "corrections", "obtained"]
    head += [
        "pass",
        "pass_low",
        "pass_high",
        "identical",
        "agreement",
        "consults",
        "prompt_tokens",
        "answer_tokens",
    ]
    return Table("sessions", head, list(dict.fromkeys(map(tuple, rows))))


def found(domains: dict) -> Table:
    rows = []
    for domain, made in domains.items():
        for row in sorted(made.rows, key=lambda row: GATES.index(row["score"])):
            ranking = made.rankings[row["score"]]
            figures = [ranking.auc(made.ones), *ranking.recalls(made.ones, SHARES)]
            rows.append(
                [
                    domain,
                    len(made.ones),
                    made.tokens,
                    number(made.disagreements / made.tokens),
                    row["score"],
                    *map(number, figures),
                    number(row["whole_prompts"], 2),
                ]
            )
    head = ["domain", "problems", "tokens", "disagreements", "gate", *FOUND, "whole_problems"]
    return Table("found", head, rows)


def figures(ranking: Ranking, weights: list) -> list:
    return [[ranking.auc(w), *ranking.recalls(w, SHARES)] for w in weights]


def found_gains(domains: dict) -> Table:
    """The head against every other gate, on the same draws."""
    rows = []
    for domain, made in domains.items():
        if "head" not in made.rankings:
            continue
        weights = [made.ones, *made.resamples()]
        ours = figures(made.rankings["head"], weights)
        for gate in GATES[1:]:
            if gate in made.rankings:
                theirs = figures(made.rankings[gate], weights)
                gains = [[a - b for a, b in zip(*pair)] for pair in zip(ours, theirs)]
                rows += [
                    [domain, gate, name, *with_interval(g)] for name, g in zip(FOUND, zip(*gains))
                ]
    return Table("found-gains", ["domain", "over", "figure", "gain", "low", "high"], rows)


def ways(runs: list) -> Table:
    rows = []
    for run, gates, burst in runs:
        for gate in gates:
            for share in (0.1, 0.2):
                for name, what in run.heights():
                    made = run.way(run.curve(gate, burst, what, share), what)
                    rows.append(
                        [
                            len(run.evaluation.ones),
                            gate,
                            *run.options(burst),
                            name,
                            point(share),
                            *with_interval(made),
                        ]
                    )
    return Table(
        "way", ["problems", "gate", "burst", "hand_back", "what", "at", "made", "low", "high"], rows
    )


def leads(pairs: list) -> Table:
    """By how much one curve is above another, both given as (run, gate, tokens a consult)."""
    rows = []
    for (ours, gate, burst), (theirs, other, other_burst), shares in pairs:
        for share in shares:
            for name, what in ours.heights():
                above, below = (
                    ours.curve(gate, burst, what, share),
                    theirs.curve(other, other_burst, what, share),
                )
                rows.append(
                    [
                        len(ours.evaluation.ones),
                        gate,
                        *ours.options(burst),
                        other,
                        *theirs.options(other_burst),
                        name,
                        point(share),
                        *with_interval([a - b for a, b in zip(above, below)]),
                    ]
                )
    head = ["problems", "gate", "burst", "hand_back", "over", "over_burst", "over_hand_back"]
    return Table("leads", [*head, "what", "at", "lead", "low", "high"], rows)


def pairs(mbpp: Evaluation) -> Table:
    """Problem by problem: programs identical to the cloud LLM's with only one of two gates."""
    rows = []
    for gate in mbpp.gates()[1:]:
        for share in SHARES:
            if ("head", share, 1) in mbpp.ways and (gate, share, 1) in mbpp.ways:
                both = [mbpp.ways[name, share, 1].identical for name in ("head", gate)]
                head = sum(a and not b for a, b in zip(*both))
                other = sum(b and not a for a, b in zip(*both))
                rows.append(
                    [
                        len(mbpp.ones),
                        gate,
                        point(share),
                        head,
                        other,
                        f"{sign_test(head, other):.2g}",
                    ]
                )
    return Table("pairs", ["problems", "gate", "asked", "only_head", "only_gate", "p"], rows)


class Pace:
    """Seconds without a network delay: of a step, and of a consult besides the steps."""

    def __init__(self, live: Evaluation):
        slm = live.sums[SLM]
        self.step = slm["seconds"] / max(1, slm["tokens"])
        rest = lambda sum_: (
            (sum_["seconds"] - sum_["tokens"] * self.step) / max(1, sum_["consults"])
        )  # noqa: E731
        self.consults = {key[2]: max(0.0, rest(sum_)) for key, sum_ in gated(live)}

    def seconds(self, sum_: dict, delay: int) -> float:
        """Of the sessions of `sum_`, at a delay in milliseconds a consult."""
        return sum_["tokens"] * self.step + sum_["consults"] * (
            self.consults[sum_["burst"]] + delay / 1000
        )


def gated(made: Evaluation) -> list:
    """The sums of gates at shares, or at thresholds given."""
    return [
        (key, sum_)
        for key, sum_ in made.sums.items()
        if key[0] in GATES and not isinstance(key[1], str)
    ]


def delays(live: dict, pace: Pace) -> Table:
    rows = []
    for delay, made in live.items():
        for key, sum_ in [(LLM, made.sums[LLM]), *gated(made)]:
            computed = "" if key == LLM else f"{pace.seconds(sum_, delay):.1f}"
            rows.append(
                [
                    len(made.ones),
                    delay,
                    sum_["gate"],
                    sum_["burst"],
                    sum_["tokens"],
                    sum_["consults"],
                    sum_["bytes"],
                    f"{sum_['seconds']:.1f}",
                    computed,
                ]
            )
    head = [
        "problems",
        "delay_ms",
        "gate",
        "burst",
        "tokens",
        "consults",
        "bytes",
        "seconds",
        "computed",
    ]
    return Table("delay", head, rows)


def computed_delays(runs: list, pace: Pace) -> Table:
    rows = []
    for run in runs:
        for key, sum_ in gated(run.evaluation):
            if key[2] in pace.consults and (key[2] > 1 or not run.hand_back):
                start = [len(run.evaluation.ones), point(key[1]), *run.options(key[2])]
                rows += [[*start, delay, f"{pace.seconds(sum_, delay):.0f}"] for delay in DELAYS]
    return Table(
        "delay-computed", ["problems", "asked", "burst", "hand_back", "delay_ms", "seconds"], rows
    )


def thresholds(mbpp: Evaluation, other: Evaluation) -> Table:
    """What thresholds ask for and find in the second domain: those of MBPP, and its own."""
    rows = []
    for gate in GATES:
        for share in (0.1, 0.2):
            key = (gate, share, 1)
            if gate == "random" or key not in mbpp.thresholds or key not in other.thresholds:
                continue
            for name, source in (("MBPP", mbpp), ("GSM8K", other)):
                asked = [score < source.thresholds[key] for score in other.scores[gate]]
                hits = sum(a and not agree for a, agree in zip(asked, other.agrees))
                shares = [sum(asked) / len(asked), hits / max(1, other.disagreements)]
                rows.append([len(other.ones), gate, point(share), name, *map(number, shares)])
    return Table(
        "thresholds", ["problems", "gate", "wanted", "thresholds_of", "asked", "found"], rows
    )


def aims(alone: Evaluation, wide: Run) -> Table:
    """The goals of the head, with what came out."""
    head = alone.rankings["head"]
    weights = [alone.ones, *alone.resamples()]
    of_way = lambda share: wide.way(wide.curve("head", 1, "rate", share), "rate")  # noqa: E731
    figures = [
        ("auc", 0.95, alone, [head.auc(w) for w in weights]),
        ("at_10", 0.65, alone, [head.recall(w, 0.1) for w in weights]),
        ("at_20", 0.92, alone, [head.recall(w, 0.2) for w in weights]),
        ("way_10", 0.6, wide.evaluation, of_way(0.1)),
        ("way_20", 0.9, wide.evaluation, of_way(0.2)),
    ]
    rows = [
        [name, len(source.ones), aim, *with_interval(values)]
        for name, aim, source, values in figures
    ]
    return Table("aims", ["figure", "problems", "aim", "measured", "low", "high"], rows)
