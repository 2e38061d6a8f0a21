"""The language of what is shown: English, or Chinese where the locale or `--lang zh` asks for it.

A message is written in English where it arises, as a plain string or an f-string, and stays English
in exceptions, records, run.json and whatever else a program reads. Only what a person is shown
passes through

    said(text)            in the language in effect
    in_chinese(text)      in Chinese, whatever that is: for a page that can be switched

which look the text up in `zh.json` by the template that it was made from, `{0}` standing for the
first thing put in, and so on; see `translate.py`. A new message needs its line there, and nothing
else: tests/words/test_words.py finds all strings of the package that are words, and says which are
missing. The table is read when the first text is said in Chinese.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

ENGLISH, CHINESE = "en", "zh"
LANGUAGES = (ENGLISH, CHINESE)
_FLAG = "--lang"
_chosen: str | None = None


def language() -> str:
    """The language in effect: the one that was chosen, else that of the locale."""
    return _chosen or _of_locale()


def use_language(name: str | None) -> None:
    """Chooses the language of this process, "en" or "zh"; None leaves it to the locale again.

    Raises:
        ValueError: it is neither.
    """
    global _chosen
    if name is not None and name not in LANGUAGES:
        raise ValueError(f"{name!r} is not one of {', '.join(LANGUAGES)}")
    _chosen = name


@contextlib.contextmanager
def language_kept() -> Iterator[None]:
    """Gives back at the end the language that was chosen before."""
    global _chosen
    before = _chosen
    try:
        yield
    finally:
        _chosen = before


def use_language_of(argv: Sequence[str]) -> None:
    """Chooses what `--lang` in a command line names, before any of it can be found wrong."""
    given = [word.partition("=")[2] for word in argv if word.startswith(f"{_FLAG}=")]
    given += [after for word, after in itertools.pairwise(argv) if word == _FLAG]
    if given and given[-1] in LANGUAGES:
        use_language(given[-1])


def said(text: str) -> str:
    """An English text of ours in the language in effect."""
    return text if language() == ENGLISH else in_chinese(text)


def in_chinese(text: str) -> str:
    """An English text of ours in Chinese; as it is where it is not one of ours."""
    from qwen3_profile.words.translate import translate  # only where Chinese is asked for

    return translate(text)


def both(text: str) -> str | dict[str, str]:
    """An English text of ours for a page that can be switched: in each language, or once where it
    is the same in both.
    """
    return _each(text, in_chinese(text))


def in_each(render: Callable[[], str]) -> str | dict[str, str]:
    """What `render` gives when each language is in effect."""
    found = []
    with language_kept():
        for name in LANGUAGES:
            use_language(name)
            found.append(render())
    return _each(*found)


def _each(english: str, chinese: str) -> str | dict[str, str]:
    return english if english == chinese else {ENGLISH: english, CHINESE: chinese}


def asked_language() -> str:
    """The language that somebody asked for by `--lang` or a Chinese locale, else nothing."""
    return _chosen or _of_locale().replace(ENGLISH, "")


def _of_locale() -> str:
    """As the C library decides which language messages have."""
    names = (os.environ.get(key) for key in ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next(filter(None, names), "")
    return CHINESE if locale.lower().startswith("zh") else ENGLISH
