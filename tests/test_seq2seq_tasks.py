"""Generated pairs: each date reads as its answer and no other, and what is held out is held out."""

import re
from datetime import date
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.errors import UserError
from minigrad.models.seq2seq.tasks import (
    FIRST_DAY,
    LANGUAGES,
    LAST_DAY,
    NUMBERS,
    PARTS,
    WORDS,
    Format,
    copying,
    dates,
    formats,
    reversing,
)

MONTHS = {
    name.lower(): number
    for language in LANGUAGES.values()
    for names in (language.months, language.short)
    for number, name in enumerate(names.split(), 1)
}
WEEKDAYS = {
    name.lower(): number
    for language in LANGUAGES.values()
    for number, name in enumerate(language.weekdays.split())
}  # fmt: skip
ORDINALS = {word: number for number, word in enumerate(WORDS, 1)}
ORDINAL = re.compile(rf"(?<![a-z])(?:{'|'.join(sorted(WORDS, key=len, reverse=True))})(?![a-z])")


def year(text):
    return int(text) if len(text) == 4 else 1900 + int(text) + 100 * (int(text) < 69)


def read(line):
    """The date that a line means, by the rules of the docstring and by looking for what looks like a part of one."""
    line = line.lower()
    told = [number for name, number in WEEKDAYS.items() if re.search(rf"(?<!\w){name}(?!\w)", line)]
    for name in WEEKDAYS:
        line = re.sub(rf"(?<!\w){name}(?!\w)", " ", line)
    months = [MONTHS[word] for word in re.findall(r"[^\W\d_]+", line) if word in MONTHS]
    words = [ORDINALS[word] for word in ORDINAL.findall(line)]
    numbers = re.findall(r"'?\d+", line)
    if len(numbers) == 1 and not words:  # 19790503
        (n,) = numbers
        found = date(int(n[:4]), int(n[4:6]), int(n[6:]))
    else:
        marked = [n for n in numbers if len(n) == 4 or n[0] == "'"] or numbers[-1:]
        assert len(marked) == 1
        first = numbers[0] == marked[0]
        numbers.remove(marked[0])
        numbers = [int(n) for n in numbers]
        if not months:
            months = [numbers.pop(0 if first else 1)]
        ((day,), (month,)) = numbers + words, set(months)
        found = date(year(marked[0].lstrip("'")), month, day)
    assert not told or told[0] == found.weekday()
    return found


def test_names_of_months_mean_one_month():
    pairs = {
        (name.lower(), number)
        for language in LANGUAGES.values()
        for names in (language.months, language.short)
        for number, name in enumerate(names.split(), 1)
    }
    assert len(pairs) == len(MONTHS) and set(MONTHS.values()) == set(range(1, 13))
    assert all(len(own.months.split()) == 12 == len(own.short.split()) for own in LANGUAGES.values())
    assert all(len(own.weekdays.split()) == 7 for own in LANGUAGES.values()) and len(WORDS) == 31


@pytest.mark.parametrize("part", PARTS)
def test_every_date_reads_as_its_answer(part):
    for line, answer in dates(5000, seed=7, part=part):
        assert read(line).isoformat() == answer, line


@pytest.mark.parametrize("part", PARTS)
def test_every_format_reads_as_its_day(part):
    for form in formats(part):
        for day in (date(1979, 5, 31), date(2012, 11, 2)):
            assert read(form.write(day)) == day, form


@given(st.dates(FIRST_DAY, LAST_DAY), st.sampled_from([f for f in formats("train") if f.year == "1979"]))
def test_any_day_in_any_format(day, form):
    assert read(form.write(day)) == day


KNOWN = {
    "the 3rd of May 1979": ("English", "linked", "May", "3rd", "1979", "none"),
    "The third of May 1979": ("English", "linked", "May", "third", "1979", "none"),
    "3 mai 1979": ("French", "3 May 1979", "May", "3", "1979", "none"),
    "May 3, 1979": ("English", "May 3, 1979", "May", "3", "1979", "none"),
    "Thursday 3 May 1979": ("English", "3 May 1979", "May", "3", "1979", "Thursday 3"),
    "1979, May 3rd": ("English", "1979, May 3", "May", "3rd", "1979", "none"),
    "3. Mai 1979": ("German", "3 May 1979", "May", "3rd", "1979", "none"),
    "el 3 de mayo de 1979": ("Spanish", "linked", "May", "3", "1979", "none"),
    "giovedì, il 3 maggio del 1979": ("Italian", "linked", "May", "3", "1979", "Thursday, 3"),
    "03-mei-79 (donderdag)": ("Dutch", "3-May-1979", "Mar", "03", "79", "3 (Thursday)"),
    "'79, em 3º de mai": ("Portuguese", "1979, linked", "Mar", "3rd", "'79", "none"),
    "den 3:e maj 1979": ("Swedish", "linked", "Mar.", "3rd", "1979", "none"),
    "03/5/79": (NUMBERS, "3/5/1979", "5", "03", "79", "none"),
    "19790503": (NUMBERS, "19790503", "05", "03", "1979", "none"),
}


@pytest.mark.parametrize("line", KNOWN)
def test_known_dates(line):
    form = Format(*KNOWN[line])
    assert form in formats("train") + formats("held-out")
    assert form.write(date(1979, 5, 3)).lower() == line.lower()


def test_what_is_held_out():
    train, held = (set(formats(part)) for part in PARTS)
    assert len(held) > 1000 and len(train) > 1000 and not train & held
    for form in held:  # each part of it is one of training, and in its language too
        assert all(any(other[k] == form[k] for other in train) for k in range(len(form)))
    for language in [*LANGUAGES, NUMBERS]:
        parts = [
            set(chain.from_iterable(map(enumerate, (f for f in part if f.language == language))))
            for part in (train, held)
        ]
        assert parts[1] <= parts[0] and parts[1]
    answers = [{answer for _, answer in dates(20_000, seed=1, part=part)} for part in PARTS]
    assert not answers[0] & answers[1] and len(answers[1]) > 5000


def test_dates_are_many_and_of_all_parts():
    pairs = dates(5000, seed=3)
    assert len(set(pairs)) > 4900 and all(line.strip() and "\n" not in line and "\t" not in line for line, _ in pairs)
    assert {answer[5:7] for _, answer in pairs} == {f"{month:02}" for month in range(1, 13)}
    assert {answer[:2] for _, answer in pairs} == {"19", "20"}
    assert any("  " in line for line, _ in pairs) and any(line.isupper() for line, _ in pairs)


draws = pytest.mark.parametrize("draw", [
    dates, lambda n, seed: dates(n, seed, "held-out"), lambda n, seed: reversing(3, 9, n, seed),
    lambda n, seed: copying(3, 9, n, seed)])  # fmt: skip


@draws
def test_one_seed_is_one_list(draw):
    assert draw(50, 1) == draw(50, 1) != draw(50, 2) and len(draw(50, 1)) == 50 and draw(0, 1) == []


@given(st.integers(1, 12), st.integers(0, 8), st.integers(0, 40), st.integers(0, 2**40))
def test_letters(low, more, count, seed):
    pairs, same = reversing(low, low + more, count, seed, "abc"), copying(low, low + more, count, seed, "abc")
    assert len(pairs) == len(same) == count
    for (line, other), (first, second) in zip(pairs, same):
        assert other == line[::-1] and first == second == line
        assert low <= len(line) <= low + more and set(line) <= set("abc")


def test_letters_have_all_lengths():
    assert {len(line) for line, _ in reversing(1, 20, 2000, seed=0)} == set(range(1, 21))


def test_wrong_arguments():
    with pytest.raises(UserError, match="one of train, held-out"):
        dates(3, part="test")
    for low, high in ((0, 3), (4, 3)):
        with pytest.raises(UserError, match="two lengths"):
            copying(low, high, 3)
    with pytest.raises(UserError, match="no letter"):
        reversing(1, 3, 3, letters="")
