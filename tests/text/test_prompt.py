r"""The prompt language against what AUTOMATIC1111's web UI publishes that it does (the examples in its modules/prompt_parser.py).

`RECORDED` is what that module's functions gave at six steps; the rest is properties of any prompt.
"""

import math
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sumi.errors import PromptError
from sumi.text.placed import places
from sumi.text.prompt import Break, Clause, Edit, Emphasis, Part, Passage, Script, Segment, literal, parse, plain


def segments(text: str, step: int = 0, steps: int = 10) -> list[list[tuple[str, float]]]:
    """The sections of a prompt without AND."""
    (part,) = parse(text).at(step, steps)
    assert part.weight == 1
    return [[(segment.text, segment.weight) for segment in section] for section in part.passage.sections]


def text_of(part: Part) -> str:
    return "".join(segment.text for segment in part.passage.segments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).)",
            [
                ("a ", 1.0),
                ("house", 1.5730000000000004),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641000000000006),
                (".", 1.1),
            ],
        ),
    ],
)
def test_emphasis_is_the_published_examples(text: str, expected: list[tuple[str, float]]) -> None:
    """To the last bit; the long one's first bracket is closed here, which the web UI does at the end by itself."""
    assert segments(text) == [expected]


ENDS = {
    "test": [(10, "test")],
    "a [b:3]": [(3, "a "), (10, "a b")],
    "a [b: 3]": [(3, "a "), (10, "a b")],
    "a [[[b]]:2]": [(2, "a "), (10, "a [[b]]")],
    "[(a:2):3]": [(3, ""), (10, "(a:2)")],
    "a [b : c : 1] d": [(1, "a b  d"), (10, "a  c  d")],
    "a[b:[c:d:2]:1]e": [(1, "abe"), (2, "ace"), (10, "ade")],
    "a [b:.5] c": [(5, "a  c"), (10, "a b c")],
    "[a|(b:1.1)]": [(step, "(b:1.1)" if step % 2 == 0 else "a") for step in range(1, 11)],
    "[fe|]male": [(step, "male" if step % 2 == 0 else "female") for step in range(1, 11)],
    "[fe|||]male": [(step, "female" if step % 4 == 1 else "male") for step in range(1, 11)],
    "a [b:1.5] c": [(10, "a  c")],
}


@pytest.mark.parametrize("text", ENDS)
def test_edits_and_alternations_are_the_published_examples(text: str) -> None:
    """The published list says at which step each text ends; the sampler, counting from 0, uses the first that has not ended before."""
    for step in range(10):
        expected = next(entry for end, entry in ENDS[text] if step <= end)
        assert parse(text).at(step, 10) == parse(expected).at(0, 1), step


# At steps 0, 2, 3 and 5 of 6, or at all: the weight of each part and its sections' texts, each with its weight.
RECORDED: dict[str, tuple[str, ...]] = {
    "a (red [on|off] b:1.3) [c:d:.5]": (
        "1.0: a *1.0+red on b*1.3+ c*1.0",
        "1.0: a *1.0+red off b*1.3+ c*1.0",
        "1.0: a *1.0+red on b*1.3+ c*1.0",
        "1.0: a *1.0+red on b*1.3+ d*1.0",
    ),
    "[a:[b:c:4]:2]x": ("1.0: ax*1.0", "1.0: ax*1.0", "1.0: bx*1.0", "1.0: cx*1.0"),
    "[[a]|(b:0.5)|]": ("1.0: a*0.9090909090909091", "1.0: b*0.5", "1.0: ", "1.0: b*0.5"),
    "[a [b] c:3]": ("1.0: ", "1.0: ", "1.0: ", "1.0: a *1.0+b*0.9090909090909091+ c*1.0"),
    "((a)(b)[c])": ("1.0: ab*1.2100000000000002+c*1.0",),
    "[(a:1.5)::2] BREAK [b:0.5]": ("1.0: a*1.5 / ", "1.0: a*1.5 / ", "1.0:  / ", "1.0:  / b*1.0"),
    "a \\(b\\) [\\[:\\]:1]": ("1.0: a (b) [*1.0", "1.0: a (b) ]*1.0", "1.0: a (b) ]*1.0", "1.0: a (b) ]*1.0"),
    "a cat:0.7 AND(a dog:1.2)AND[x:y:3] : -1": (
        "0.7: a cat*1.0 & 1.0: a dog*1.2 & -1.0: x*1.0",
        "0.7: a cat*1.0 & 1.0: a dog*1.2 & -1.0: x*1.0",
        "0.7: a cat*1.0 & 1.0: a dog*1.2 & -1.0: x*1.0",
        "0.7: a cat*1.0 & 1.0: a dog*1.2 & -1.0: y*1.0",
    ),
    "[a:b:.99]": ("1.0: a*1.0",),
    "(a)(b:1.1)[(c)]": ("1.0: ab*1.1+c*1.0",),
    "[ a : b :  1 ]": ("1.0:  a *1.0", "1.0:  b *1.0", "1.0:  b *1.0", "1.0:  b *1.0"),
    "[a|[b|c]]": ("1.0: a*1.0", "1.0: c*1.0", "1.0: a*1.0", "1.0: a*1.0"),
    "red, (blue, [green:yellow:0.34]) sky": (
        "1.0: red, *1.0+blue, green*1.1+ sky*1.0",
        "1.0: red, *1.0+blue, green*1.1+ sky*1.0",
        "1.0: red, *1.0+blue, yellow*1.1+ sky*1.0",
        "1.0: red, *1.0+blue, yellow*1.1+ sky*1.0",
    ),
    "((a:1.1):1.1) b [c] BREAK (d)": ("1.0: a*1.2100000000000002+ b *1.0+c*0.9090909090909091 / d*1.1",),
    "[a:b:1e0]": ("1.0: a*1.0", "1.0: b*1.0", "1.0: b*1.0", "1.0: b*1.0"),
}


def described(script: Script, step: int, steps: int) -> str:
    """What is in force at a step, as `RECORDED` writes it."""
    return " & ".join(
        f"{part.weight}: " + " / ".join("+".join(f"{s.text}*{s.weight}" for s in section) for section in part.passage.sections)
        for part in script.at(step, steps)
    )


@pytest.mark.parametrize("text", RECORDED)
def test_prompts_are_read_as_the_web_ui_was_seen_to(text: str) -> None:
    found = [described(parse(text), step, 6) for step in (0, 2, 3, 5)]
    assert found == list(RECORDED[text]) * (4 // len(RECORDED[text]))


def test_an_edit_ends_with_the_step_that_it_names() -> None:
    assert [text_of(parse("[a:b:3]").at(step, 20)[0]) for step in range(6)] == ["a", "a", "a", "a", "b", "b"]
    assert [text_of(parse("[a:b:0.25]").at(step, 12)[0]) for step in range(6)] == ["a", "a", "a", "a", "b", "b"]
    assert [text_of(parse("[a:b:0]").at(step, 20)[0]) for step in range(2)] == ["b", "b"]
    assert [text_of(parse("[a:b:-1]").at(step, 20)[0]) for step in range(2)] == ["b", "b"]
    assert {text_of(parse("[a:b:99]").at(step, 20)[0]) for step in range(20)} == {"a"}
    assert parse("[to:3]") == parse("[:to:3]") and parse("[from::3]") != parse("[from:3]")
    assert parse("[a:b:1]") != parse("[a:b:1.0]")


def test_an_alternation_begins_with_its_first_twice() -> None:
    assert "".join(text_of(parse("[a|b|]").at(step, 9)[0]) or "-" for step in range(9)) == "aab-ab-ab"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(cat:abc)", [("cat:abc", 1.1)]),
        ("(cat:)", [("cat:", 1.1)]),
        ("(cat:1e3)", [("cat:1e3", 1.1)]),
        ("(cat : 1.2 )", [("cat ", 1.2)]),
        ("(a:1.2:1.3)", [("a:1.2", 1.3)]),
        ("(a|b)", [("a|b", 1.1)]),
        ("(wait:...)", [("wait:...", 1.1)]),
        ("a:b | 16:9", [("a:b | 16:9", 1.0)]),
        ("[a:b]", [("a:b", 1 / 1.1)]),
        ("[a:b:c:3]", [("a:b:c:3", 1 / 1.1)]),
        ("[a:b:(c)]", [("a:b:", 1 / 1.1), ("c", 1.1 * (1 / 1.1))]),
        ("(a:-0.5)(b:0)", [("a", -0.5), ("b", 0.0)]),
        (r"\\ \( \x", [(r"\ ( x", 1.0)]),
        (r"(a\:1.2)", [("a:1.2", 1.1)]),
        (r"\AND B\REAK ANDY breAK AND_", [("AND BREAK ANDY breAK AND_", 1.0)]),
        (r"\<lora:x:1> <b <a:> a<3", [("<lora:x:1> <b <a:> a<3", 1.0)]),
        ("() [] (:1.3) [:3]", [("   ", 1.0)]),
        ("", []),
    ],
)
def test_what_may_look_like_something_else(text: str, expected: list[tuple[str, float]]) -> None:
    assert segments(text) == [expected]


def test_breaks_end_a_section_wherever_they_stand() -> None:
    assert segments("a BREAK b") == [[("a", 1.0)], [("b", 1.0)]]
    assert segments("BREAK a\n BREAK\nBREAK b BREAK") == [[], [("a", 1.0)], [], [("b", 1.0)], []]
    assert segments("(a BREAK b:1.3)c") == [[("a", 1.3)], [("b", 1.3), ("c", 1.0)]]
    assert segments("x[a BREAK b:3]", step=9) == [[("xa", 1.0)], [("b", 1.0)]]
    assert segments("a:BREAK|b") == [[("a:", 1.0)], [("|b", 1.0)]]


def test_and_composes_parts_with_weights() -> None:
    parts = parse("a cat :0.5 AND (a dog) AND[a:b:3]:-2 AND :.5").at(0, 10)
    assert [(part.weight, text_of(part)) for part in parts] == [(0.5, "a cat"), (1.0, "a dog"), (-2.0, "a"), (0.5, "")]
    parts = parse("a AND b:2 AND c: 1. AND").at(0, 10)
    assert [(part.weight, text_of(part)) for part in parts] == [(1.0, "a"), (2.0, "b"), (1.0, "c"), (1.0, "")]
    assert parse("16:9").at(0, 1) == (Part(1.0, Passage(((Segment("16:9"),),))),)


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("a (cat", 3, "never closed"),
        ("[a:b:3", 1, "never closed"),
        ("((a:1.2)", 1, "never closed"),
        ("cat) dog", 4, r"write \)"),
        (":)", 2, r"write \)"),
        ("(a]", 3, "closes nothing"),
        ("([a)]", 4, "closes nothing"),
        ("(a:1.2.3)", 4, "1.2.3 is not a number"),
        ("[a:b:1.2.3]", 6, "1.2.3 is not a number"),
        ("a :1..5 AND b", 4, "1..5 is not a number"),
        ("(a:1001)", 4, "too large"),
        (f"(a:{'9' * 400})", 4, "99999999999999999999... is too large"),
        ("[a:b:1e999]", 6, "too large"),
        ("a :5000 AND b", 4, "too large"),
        ("x ((a:100):100)", 3, "multiply to more than 1000"),
        ("[(((a:100):5):3)|b]", 2, "multiply to more than 1000"),
        ("(" * 101 + ")" * 101, 101, "more than 100 brackets"),
        ("[" * 5000, 101, "more than 100 brackets"),
        ("a <lora:style:0.8>", 3, "loads no extra network (<lora:...>): take it out"),
        ("<lora:(a)>", 1, "loads no extra network"),
        ("(a AND b)", 4, "AND stands in brackets"),
        ("[a AND b:c:3]", 4, "AND stands in brackets"),
        ("[a|b:3]", 1, "both alternates and is edited"),
        ("(x:[1.1:1.3:5])", 1, "would change"),
        ("(x: [1|2])", 1, "would change"),
        ("a\\", 2, "nothing follows"),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(text: str, place: int, says: str) -> None:
    with pytest.raises(PromptError) as error:
        parse(text)
    message = str(error.value)
    assert message.startswith(f"prompt, character {place}: ") and says in message and "\n" not in message and len(message) < 200


def test_a_hundred_brackets_are_read_and_printed() -> None:
    deep = "(" * 50 + "[" * 50 + "a" + "]" * 50 + ")" * 50
    assert parse(str(parse(deep))) == parse(deep)
    ((segment,),) = segments(deep)
    assert segment[1] == pytest.approx(1)


@pytest.mark.parametrize("read", [parse, literal, plain])
def test_half_of_a_surrogate_pair_is_refused(read: object) -> None:
    assert callable(read)
    with pytest.raises(PromptError, match="not Unicode"):
        read("a \ud800 cat")


def test_a_script_prints_in_a_form_that_says_all() -> None:
    for text in ("a cat", "16:9 | a, b: c", "(a:1.3) [b:c:0.5] [d|e|] f BREAK g AND h :0.5", r"\(a\) A\ND"):
        assert str(parse(text)) == text
    assert str(parse("(a) [b] [c:3] [d:1.]")) == f"(a:1.1) (b:{1 / 1.1}) [:c:3] [:d:1.0]"
    assert str(literal("[a:b:3] AND <lora:x>")) == r"\[a:b:3\] A\ND \<lora:x>"
    assert str(Script((Clause(("16:9",)), Clause((Emphasis(("a:2",), 1.0),))))) == "16:9 :1 AND (a:2:1)"


@pytest.mark.parametrize(
    ("text", "step", "expected"),
    [
        ("a (cat:1.2) BREAK  dog", 0, [("a ", [0, 1]), ("cat", [3, 4, 5]), ("dog", [19, 20, 21])]),
        (r"\(a\) (b)(c)", 0, [("(a) ", [1, 2, 4, 5]), ("bc", [7, 10])]),
        ("[ab:cd:3]e", 0, [("abe", [1, 2, 9])]),
        ("[ab:cd:3]e", 9, [("cde", [4, 5, 9])]),
        ("[a: 3 :b]", 0, [("a: 3 :b", [1, 2, 3, 4, 5, 6, 7])]),
        ("[a:b:c: 3]", 0, [("a:b:c:3", [1, 2, 3, 4, 5, 6, 8])]),
        ("x AND  y", 0, [("x", [0]), ("y", [7])]),
    ],
)
def test_each_character_knows_where_it_is_written(text: str, step: int, expected: list[tuple[str, list[int]]]) -> None:
    found = [segment for part in parse(text).at(step, 10) for segment in part.passage.segments]
    assert [(segment.text, [*places(segment.text)]) for segment in found] == expected


def test_scripts_are_values() -> None:
    one, two = parse("(a:1.3)[b|c] BREAK AND d"), parse("(a:1.3)[b|c]  BREAK AND  d")
    assert one == two and hash(one) == hash(two) and len({one.at(1, 9), two.at(3, 9), one.at(2, 9)}) == 2
    assert parse("[a:b:3]").clauses == (Clause((Edit(("a",), ("b",), 3.0, False),)),)
    assert parse("a BREAK").clauses == (Clause(("a", Break())),)


PIECES = [
    *"()[]:|\\<> \n,.-_",
    *("cat", "a", "é", "日", "BREAK", "AND", "1.3", "0.5", "3", "-2", "1.2.3", "1e3", "<lora:", "<a"),
    *("(a:1.2)", "[a:b:3]", "[a|b]", "[:", ":.5]", ":2)", " AND ", " BREAK ", "\\(", "((", "))"),
]


def check_any(text: str) -> None:
    as_it_is = literal(text)
    assert all([*places(segment.text)] == [*range(len(text))] for segment in plain(text).segments)
    assert parse(str(as_it_is)) == as_it_is
    assert as_it_is.at(0, 5) == as_it_is.at(4, 5) == (Part(1.0, plain(text)),) and text_of(Part(1.0, plain(text))) == text
    try:
        script = parse(text)
    except PromptError as error:
        assert "\n" not in str(error) and error.at is not None and f"character {error.at + 1}:" in str(error)
        return
    assert parse(str(script)) == script
    seen = ""
    for step in range(3):
        for part in script.at(step, 3):
            assert math.isfinite(part.weight)
            for section in part.passage.sections:
                assert all(segment.text and math.isfinite(segment.weight) for segment in section)
                assert all(one.weight != two.weight for one, two in pairwise(section))
            where = [place for segment in part.passage.segments for place in places(segment.text)]
            assert "".join(text[place] for place in where) == text_of(part) and where == sorted({*where})
            seen += text_of(part)
    if not {"[", "|"} & {*text}:
        assert all(letter in seen for letter in text if letter in "é日,_")


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_any_prompt_is_read_whole_or_refused(seed: int) -> None:
    """A hundred prompts each, ten thousand together: those that hypothesis itself writes take ten times as long."""
    random = Random(seed)
    for _ in range(100):
        check_any("".join(random.choices(PIECES, k=random.randint(0, 12))))


WORDS = st.text("abc é,", min_size=1, max_size=4)


@given(st.lists(WORDS, min_size=1, max_size=4), st.integers(0, 4), st.sampled_from([3, 0.5, -1.25, 1.1]))
@settings(max_examples=100, deadline=None)
def test_nothing_of_a_text_is_lost_at_any_step(words: list[str], when: int, weight: float) -> None:
    """At each step the text is what is in force there, whole and in order."""
    for step in range(4):
        (part,) = parse("".join(f"({word}:{weight})" for word in words)).at(step, 4)
        assert [segment.weight for segment in part.passage.segments] == [weight] and text_of(part) == "".join(words)
        (part,) = parse("x" + "".join(f"[{word}::{when}]" for word in words)).at(step, 4)
        assert text_of(part) == "x" + "".join(words) * (max(step, 1) <= when)
        (part,) = parse("[" + "|".join(words) + "|]y").at(step, 4)
        assert text_of(part) == [*words, ""][(max(step, 1) - 1) % (len(words) + 1)] + "y"
