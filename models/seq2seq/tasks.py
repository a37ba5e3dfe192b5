"""Floor 7: generated pairs: dates in many formats and languages, letters to be reversed and letters to be copied.

A date is written in one of 7,865 formats, each a combination of

    language   English, French, German, Spanish, Italian, Dutch, Portuguese, Swedish, or numbers alone
    pattern    3 May 1979; 3 May, 1979; 3-May-1979; May 3 1979; May 3, 1979; 1979 May 3; 1979, May 3; 1979, 3 May;
               "linked", as the language does it (the 3 of May 1979; el 3 de mayo de 1979), also with the year first;
               of numbers 3.5.1979, 3/5/1979, 3-5-1979, 3 5 1979, 1979-5-3, 1979/5/3, 1979.5.3, 1979 5 3, 19790503
    month      May: the name; Mar: short; Mar.: short with a point where it is shorter; of numbers 5 or 05
    day        3, 03, 3rd (the language's ordinal), or third (English)
    year       1979, 79 (only at the end) or '79
    weekday    none, the right one before it, with a comma, or behind it in parentheses

and besides, as chance has it, in small letters, in capitals or with Capital Words, with odd spaces or without.

Rules where a date could mean two: numbers are day, month, year unless the year comes first, with four digits; years of
two digits are 1969 to 2068 (as POSIX reads them). Days are those of 1900 to 2099.

A fifth of the formats and a fifth of the days, by their hash, are held out: combinations that training never sees, of
parts that it does. (In a month whose short name is the whole one, like May, two formats write the same.)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.nn.module import Seed, as_generator

Pair = tuple[str, str]
PARTS = ("train", "held-out")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
FIRST_DAY, LAST_DAY = date(1900, 1, 1), date(2099, 12, 31)
CENTURY = 1969  # the first year that two digits can mean


class Language(NamedTuple):
    """Names as they are written inside a sentence, and how a day, a month and a year are joined."""

    months: str
    short: str
    weekdays: str  # from Monday on
    linked: str
    of_year: str
    ordinal: Callable[[int], str]


def _english(n: int) -> str:
    return f"{n}{'th' if n in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


LANGUAGES = {
    "English": Language(
        "January February March April May June July August September October November December",
        "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday", "the {d} of {m}", " {y}", _english),
    "French": Language(
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "janv févr mars avr mai juin juil août sept oct nov déc",
        "lundi mardi mercredi jeudi vendredi samedi dimanche", "le {d} {m}", " {y}",
        lambda n: "1er" if n == 1 else f"{n}e"),
    "German": Language(
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "Jan Feb Mär Apr Mai Jun Jul Aug Sept Okt Nov Dez",
        "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag", "am {d} {m}", " {y}", "{}.".format),
    "Spanish": Language(
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "ene feb mar abr may jun jul ago sep oct nov dic",
        "lunes martes miércoles jueves viernes sábado domingo", "el {d} de {m}", " de {y}", "{}º".format),
    "Italian": Language(
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
        "gen feb mar apr mag giu lug ago set ott nov dic",
        "lunedì martedì mercoledì giovedì venerdì sabato domenica", "il {d} {m}", " del {y}", "{}º".format),
    "Dutch": Language(
        "januari februari maart april mei juni juli augustus september oktober november december",
        "jan feb mrt apr mei jun jul aug sep okt nov dec",
        "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag", "op {d} {m}", " {y}", "{}e".format),
    "Portuguese": Language(
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "jan fev mar abr mai jun jul ago set out nov dez",
        "segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado domingo", "em {d} de {m}", " de {y}",
        "{}º".format),
    "Swedish": Language(
        "januari februari mars april maj juni juli augusti september oktober november december",
        "jan feb mars apr maj juni juli aug sep okt nov dec",
        "måndag tisdag onsdag torsdag fredag lördag söndag", "den {d} {m}", " {y}",
        lambda n: f"{n}:a" if n % 10 in (1, 2) and n // 10 != 1 else f"{n}:e"),
}  # fmt: skip
NUMBERS = "numbers"
WORDS = [
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
    "twentieth", "twenty-first", "twenty-second", "twenty-third", "twenty-fourth", "twenty-fifth", "twenty-sixth",
    "twenty-seventh", "twenty-eighth", "twenty-ninth", "thirtieth", "thirty-first",
]  # fmt: skip
NAMED = {
    "3 May 1979": "{d} {m} {y}", "3 May, 1979": "{d} {m}, {y}", "3-May-1979": "{d}-{m}-{y}",
    "May 3 1979": "{m} {d} {y}", "May 3, 1979": "{m} {d}, {y}", "1979 May 3": "{y} {m} {d}",
    "1979, May 3": "{y}, {m} {d}", "1979, 3 May": "{y}, {d} {m}", "linked": "", "1979, linked": "",
}  # fmt: skip
NUMBERED = {
    "3.5.1979": "{d}.{m}.{y}", "3/5/1979": "{d}/{m}/{y}", "3-5-1979": "{d}-{m}-{y}", "3 5 1979": "{d} {m} {y}",
    "1979-5-3": "{y}-{m}-{d}", "1979/5/3": "{y}/{m}/{d}", "1979.5.3": "{y}.{m}.{d}", "1979 5 3": "{y} {m} {d}",
    "19790503": "{y}{m}{d}",
}  # fmt: skip
WEEKDAYS = {"none": "{}", "Thursday 3": "{w} {}", "Thursday, 3": "{w}, {}", "3 (Thursday)": "{} ({w})"}
CASES: tuple[Callable[[str], str], ...] = (
    str, str.lower, str.upper, lambda line: " ".join(word[:1].upper() + word[1:] for word in line.split(" ")),
)  # fmt: skip


class Format(NamedTuple):
    """Each part by an example, as the module's docstring lists them."""

    language: str
    pattern: str
    month: str
    day: str
    year: str
    weekday: str

    def write(self, day: date) -> str:
        """The date in this format.

        >>> Format("English", "linked", "May", "3rd", "1979", "Thursday, 3").write(date(1979, 5, 3))
        'Thursday, the 3rd of May 1979'
        """
        n, template = day.day, _template(self)
        y = {"1979": f"{day.year}", "79": f"{day.year % 100:02}", "'79": f"'{day.year % 100:02}"}[self.year]
        d = f"{n:02}" if self.day == "03" else str(n)
        if self.language == NUMBERS:
            return template.format(d=d, m=str(day.month).zfill(len(self.month)), y=y)
        language = LANGUAGES[self.language]
        if self.day in ("3rd", "third"):
            d = language.ordinal(n) if self.day == "3rd" else WORDS[n - 1]
        name, short = (names.split()[day.month - 1] for names in (language.months, language.short))
        m = name if self.month == "May" else short + ("." if self.month == "Mar." and short != name else "")
        w = language.weekdays.split()[day.weekday()]
        return WEEKDAYS[self.weekday].format(template.format(d=d, m=m, y=y), w=w)


@cache
def _template(form: Format) -> str:
    if form.language == NUMBERS:
        return NUMBERED[form.pattern]
    own = LANGUAGES[form.language]
    linked = {"linked": own.linked + own.of_year, "1979, linked": "{y}, " + own.linked}
    return linked.get(form.pattern) or NAMED[form.pattern]


def _held_out(text: str) -> bool:
    """Whether it is in the fifth that training does not see."""
    return hashlib.sha256(text.encode()).digest()[0] % 5 == 0


def _check_part(part: str) -> None:
    if part not in PARTS:
        raise UserError(describe("dates", f"part {part!r}", f"one of {', '.join(PARTS)}"))


@cache
def formats(part: str) -> tuple[Format, ...]:
    """Those of training or those held out.

    >>> len(formats("train")), len(formats("held-out"))
    (6255, 1610)
    """
    _check_part(part)
    months, days, years = ("May", "Mar", "Mar."), ("3", "03", "3rd", "third"), ("1979", "79", "'79")
    every = [Format(*own) for own in product(LANGUAGES, NAMED, months, days, years, WEEKDAYS)]
    every = [f for f in every if f.day != "third" or f.language == "English"]
    every += [Format(NUMBERS, *own, "none") for own in product(NUMBERED, ("5", "05"), ("3", "03"), years)]
    every = [f for f in every if _readable(f)]
    return tuple(f for f in every if _held_out("|".join(f)) == (part == "held-out"))


def _readable(form: Format) -> bool:
    """Whether no other date can be meant."""
    if form.pattern == "19790503" and (form.month, form.day) != ("05", "03"):
        return False
    if not _template(form).startswith("{y}"):
        return True
    return form.year == "1979" or (form.year == "'79" and form.language != NUMBERS)


@cache
def _days(part: str, century: bool) -> tuple[date, ...]:
    """Those of a part; if ``century`` the ones that two digits of a year can mean."""
    every = (FIRST_DAY + timedelta(n) for n in range((LAST_DAY - FIRST_DAY).days + 1))
    known = (day for day in every if _held_out(day.isoformat()) == (part == "held-out"))
    return tuple(day for day in known if not century or CENTURY <= day.year < CENTURY + 100)


GAP = re.compile(r", | |(?<=\d)[./-](?=\d)")


def _loosen(line: str, bits: int) -> str:
    """With other spaces: two or three for one, none behind a comma, some around the marks between numbers."""

    def gap(found: re.Match) -> str:
        nonlocal bits
        bits, kind, mark = bits >> 2, bits & 3, found[0].strip()
        if not mark:
            return (" ", "  ", "   ", " ")[kind]
        return ((",", " , ", ", ", ",  ") if mark == "," else (mark, f"{mark} ", f" {mark} ", mark))[kind]

    line = GAP.sub(gap, line)
    return " " * (bits & 1) + line + " " * (bits >> 1 & 1)


def dates(count: int, seed: Seed = None, part: str = "train") -> list[Pair]:
    """``count`` dates and how ISO 8601 writes them, in formats and of days of a part; all languages equally often.

    >>> for line, day in dates(3, seed=5):
    ...     print(day, repr(line))
    2007-06-07 "QUINTA-FEIRA JUN  7, '07"
    2009-11-09 ' 09-nov-09 '
    1973-07-10 'tuesday 10 jul   73 '
    """
    _check_part(part)
    rng, families = as_generator(seed), {}
    for form in formats(part):
        families.setdefault(form.language, []).append(form)
    kinds = list(families.values())
    which = rng.integers(len(kinds), size=count).tolist()
    of_form, of_day = (rng.random(count).tolist() for _ in range(2))
    cases, loose, bits = rng.integers(0, (2 * len(CASES), 3, 2**62), (count, 3)).T.tolist()
    pairs = []
    for i, kind in enumerate(which):
        form = kinds[kind][int(of_form[i] * len(kinds[kind]))]
        days = _days(part, form.year != "1979")
        day = days[int(of_day[i] * len(days))]
        line = CASES[max(cases[i] - len(CASES), 0)](form.write(day))  # as it is, mostly
        pairs.append((_loosen(line, bits[i]) if loose[i] == 0 else line, day.isoformat()))
    return pairs


# ---------------------------------------------------------------- letters


def _letters(low: int, high: int, count: int, seed: Seed, letters: str) -> list[str]:
    if not 1 <= low <= high:
        raise UserError(describe("letters", f"lengths {low} to {high}", "two lengths from 1 on, in order"))
    if not letters:
        raise UserError(describe("letters", "no letter", "at least one"))
    rng = as_generator(seed)
    lengths = rng.integers(low, high + 1, count)
    drawn = "".join(np.array(list(letters))[rng.integers(len(letters), size=lengths.sum())].tolist())
    ends = np.cumsum(lengths).tolist()
    return [drawn[end - length : end] for end, length in zip(ends, lengths.tolist())]


def reversing(low: int, high: int, count: int, seed: Seed = None, letters: str = LETTERS) -> list[Pair]:
    """Strings of ``low`` to ``high`` letters, each length equally often, and the same from the end to the beginning.

    >>> reversing(2, 5, 3, seed=0)
    [('hibba', 'abbih'), ('evqx', 'xqve'), ('npzs', 'szpn')]
    """
    return [(line, line[::-1]) for line in _letters(low, high, count, seed, letters)]


def copying(low: int, high: int, count: int, seed: Seed = None, letters: str = LETTERS) -> list[Pair]:
    """Strings of ``low`` to ``high`` letters, each length equally often, and the same again.

    >>> copying(2, 5, 3, seed=0)
    [('hibba', 'hibba'), ('evqx', 'evqx'), ('npzs', 'npzs')]
    """
    return [(line, line) for line in _letters(low, high, count, seed, letters)]
