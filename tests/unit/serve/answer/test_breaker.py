from itertools import pairwise

from steelyard.serve.answer.breaker import Breaker


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def failing(breaker, times):
    for _ in range(times):
        breaker.failed()


def test_it_becomes_suspicious_after_failures_in_a_row_and_opens_by_a_probe_only():
    breaker = Breaker(Clock())
    failing(breaker, 4)
    assert not breaker.suspicious
    breaker.failed()
    assert breaker.suspicious
    assert not breaker.is_open
    assert breaker.probed(good=False)
    assert breaker.is_open
    assert not breaker.suspicious


def test_a_good_probe_before_it_opens_forgets_the_failures():
    breaker = Breaker(Clock())
    failing(breaker, 5)
    assert not breaker.probed(good=True)
    assert (breaker.is_open, breaker.failures) == (False, 0)


def test_the_pauses_between_probes_grow_to_a_bound_and_a_good_probe_closes():
    clock = Clock()
    breaker = Breaker(clock)
    failing(breaker, 5)
    breaker.probed(good=False)
    pauses = []
    for _ in range(12):
        began = clock.now
        while not breaker.suspicious:
            clock.now += 0.01
        pauses.append(clock.now - began)
        breaker.probed(good=False)
    assert 0.3 < pauses[0] < 0.7
    assert all(later > 1.1 * earlier for earlier, later in pairwise(pauses[:6]))
    assert max(pauses) < 38
    clock.now += 40
    assert breaker.suspicious
    assert not breaker.probed(good=True)
    assert (breaker.is_open, breaker.failures) == (False, 0)
    failing(breaker, 5)
    breaker.probed(good=False)
    clock.now += 0.7
    assert breaker.suspicious, "the first pause is short again"
