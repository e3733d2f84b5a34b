"""That computed results are true."""

import unittest

from results import computed


class Results(unittest.TestCase):
    def test_they_follow_from_what_was_given(self):
        given = {
            "term": "2 + 3 * 4", "tenth": 0.1, "items": ["axe", "bell"], "wanted": "bell", "a": "2024-02-28",
            "b": "2024-03-01", "numbers": [3, 1, 2], "yes": True, "metres": "metres", "miles": "miles", "people": 3,
        }
        for source, wanted in [
            ("calc(term)", 14), ("share(people,tenth)", 0.003), ("place(wanted,items)", 2), ("days(a,b)", 2),
            ("days(b,a)", 2), ("first(numbers,no)", 1), ("first(numbers,yes)", 3), ("each(tenth,people,no)", 0.03),
            ("length(people,miles,metres)", 4828), ("length(people,metres,miles)", 0.001864),
        ]:
            self.assertEqual(computed(source, given, None), wanted, source)

    def test_a_loan_costs_more_than_its_principal(self):
        given = {"principal": 12000, "years": 1, "interest": 6}
        # 12 payments of an annuity at half a percent a month.
        self.assertEqual(computed("instalment(principal,years,interest)", given, None), 1032.8)


if __name__ == "__main__":
    unittest.main()
