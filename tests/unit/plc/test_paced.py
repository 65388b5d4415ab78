"""Work that piles up is done one item at a time, in order, each once, and the loop has its turn between two."""

import asyncio

from bifrost.plc.paced import Paced


def test_items_are_done_once_each_in_their_order():
    async def run():
        done = []
        finished = asyncio.Event()

        def work(item):
            done.append(item)
            if item == "last":
                finished.set()

        paced = Paced(asyncio.get_running_loop(), work, 0.0)
        for item in ("b", "a", "b", "last"):
            paced.add(item)
        await finished.wait()
        return done

    assert asyncio.run(run()) == ["b", "a", "last"]


def test_item_that_is_added_while_it_is_worked_on_is_done_again():
    async def run():
        done = []
        finished = asyncio.Event()

        def work(item):
            done.append(item)
            if len(done) == 1:
                paced.add(item)
            else:
                finished.set()

        paced = Paced(asyncio.get_running_loop(), work, 0.0)
        paced.add("again")
        await finished.wait()
        return done

    assert asyncio.run(run()) == ["again", "again"]


def test_what_is_cleared_is_not_done():
    async def run():
        done = []
        paced = Paced(asyncio.get_running_loop(), done.append, 0.0)
        paced.add(1)
        paced.clear()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return done

    assert asyncio.run(run()) == []
