"""Names written as ranges."""

from pruner.utils import group_names


def test_a_name_that_comes_twice_counts_once():
    assert group_names([("a.1", 0), ("a.0", 0), ("a.1", 0)]) == [("a.{0,1}", ["a.1", "a.0"])]


def test_one_number_written_in_two_ways_is_two_names():
    assert [name for name, _ in group_names([("a1", 0), ("a01", 0)])] == ["a1", "a1"]
