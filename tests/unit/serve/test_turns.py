import threading

from steelyard.serve.turns import Turns


def test_what_fails_ends_neither_the_others_nor_its_own_next_turn(caplog):
    failed, turns, enough = [], [], threading.Event()

    def fails():
        failed.append(1)
        raise OSError("no space")

    def counts():
        turns.append(1)
        if len(turns) == 3:
            enough.set()

    regularly = Turns("regularly", [fails, counts], seconds=0.001)
    regularly.start()
    assert enough.wait(30)
    regularly.stop()
    regularly.join(30)
    assert not regularly.is_alive()
    assert len(failed) >= 3
    assert "A turn of regularly failed" in caplog.text
