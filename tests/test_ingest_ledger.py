"""What became of files: counted, held against the budget, and told where it is news."""

import pytest

from pyrad.errors import QuarantineBudgetError
from pyrad.ingest.book import Book
from pyrad.ingest.ledger import Ledger, ledger_rows, quarantined_files, read_ledger, totals


def ledger(**endings):
    """Files by their reasons, "__" for "-" and "_and_" between several."""
    counts = {frozenset(name.replace("__", "-").split("_and_")): files for name, files in endings.items()}
    return Ledger(endings=counts)


def test_the_budget_counts_quarantined_over_candidates():
    ledger(stored=95, not__an__image=1, decode__failed=5).check_budget(0.05)
    with pytest.raises(QuarantineBudgetError, match=r"6 of 101 images .*decode-failed 6"):
        ledger(stored=95, not__an__image=1, decode__failed=6).check_budget(0.05)
    assert ledger(already__stored=3, duplicate=1, mask=7, only__padding=1).candidates == 5


def test_a_file_is_quarantined_if_any_of_its_frames_is():
    mixed = ledger(stored_and_decode__failed=1, stored_and_frame__not__chosen=2)
    assert mixed.counts() == {"stored": 2, "skipped": 0, "quarantined": 1}
    assert mixed.by_reason() == {"skipped": {"frame-not-chosen": 2}, "quarantined": {"decode-failed": 1}}


def test_a_ledger_holds_what_is_news():
    with Book() as book:
        book.run("INSERT INTO file VALUES (1, 0, x'61', 5, 'cine', '', '', '1', 1, NULL, '', 'x')")
        book.run("INSERT INTO file VALUES (2, 0, x'62', 5, 'text', '', '', NULL, 0, 'not-an-image', '', '')")
        for n, reason in enumerate([None] * 9 + ["decode-failed"]):
            row = (n, 1, n, f"{n}", *[""] * 3, 0, None, 1, None, None, 0, 0, 0, None, "[]", reason, "")
            book.run("INSERT INTO frame VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", row)
        rows = [("quarantined", "decode-failed", 1), ("stored", "stored", 9)]
        text = ("text", "skipped", "not-an-image", 1)
        assert read_ledger(book).counts() == {"stored": 0, "skipped": 1, "quarantined": 1}
        assert [*ledger_rows(book)] == [*(("cine", *row) for row in rows), text]
        assert [*quarantined_files(book, 9)] == [("cine", "decode-failed", "")]
        book.many("INSERT INTO before VALUES ('cine', ?, ?, ?)", rows)
        book.run("INSERT INTO before VALUES ('old', 'skipped', 'mask', 1)")
        assert [*ledger_rows(book)] == [text]
        assert totals(book) == {"stored": 0, "skipped": 2, "quarantined": 1}
        book.run("UPDATE frame SET reason = 'already-stored'")
        assert totals(book) == {"stored": 1, "skipped": 2, "quarantined": 0}
