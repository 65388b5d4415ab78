"""Lines of TOML keys: every form of key, table and value, and that any document tomllib writes is read without a slip."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from bifrost.core.config_lines import key_lines, line_of

_DOCUMENT = '''# a comment
[gateway] # another
name = "a#b" # not a key = 5
dotted."quoted key".z = 3
text = """
[not.a.table]
"quoted"""
after = 'x'
literal = \'\'\'
[no] = 'x'\'\'\'
[[device]]
name = 'one'
list = [ 1, # ]
  2, "]", [3,
  4]]
[[device.tag]]
a = 1
[[device.tag]]
a = { b = 1, c = [ {d=2} ] }
[device.extra]
when = 1979-05-27 07:32:00
[[device]]
name = "two"
[[device.tag]]
a=2'''


def test_every_form_has_its_line():
    tomllib.loads(_DOCUMENT)
    lines = key_lines(_DOCUMENT)
    expected = {
        ("gateway",): 2,
        ("gateway", "name"): 3,
        ("gateway", "dotted", "quoted key", "z"): 4,
        ("gateway", "text"): 5,
        ("gateway", "after"): 8,
        ("gateway", "literal"): 9,
        ("device",): 11,
        ("device", 0): 11,
        ("device", 0, "list", 0): 13,
        ("device", 0, "list", 3, 1): 15,
        ("device", 0, "tag", 0): 16,
        ("device", 0, "tag", 1, "a", "c", 0, "d"): 19,
        ("device", 0, "extra", "when"): 21,
        ("device", 1, "name"): 23,
        ("device", 1, "tag", 0, "a"): 25,
    }
    assert {path: lines[path] for path in expected} == expected


def test_a_missing_key_has_the_line_of_its_table():
    lines = key_lines("[a]\nb = 1\n")
    assert line_of(lines, ("a", "missing", "deep")) == 1
    assert line_of(lines, ("x",)) is None


def test_depth_is_bounded_on_request():
    lines = key_lines("[a.b]\nc = [1]\n", depth_max=2)
    assert lines == {("a", "b"): 1}


_SCALARS = st.sampled_from(["1", "true", '"x"', "'y'", '"]"', "'# no'", "1.5", '"""\na"""', "1979-05-27"])
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"))


@given(st.lists(_VALUES, max_size=8))
def test_positions_agree_with_what_was_written(values):
    text, expected, line = "", {}, 1
    for number, value in enumerate(values):
        expected[(f"key{number}",)] = line
        text += f"key{number} = {value}\n"
        line += 1 + value.count("\n")
    tomllib.loads(text)
    lines = key_lines(text)
    assert {path: lines[path] for path in expected} == expected
