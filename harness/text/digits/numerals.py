"""Numbers as Chinese and Japanese write them, put into digits: 三千五百 is 3500, 百分之十五 is 15%, 3亿5000万 is 350000000.

A single character is a number only where nothing else can be meant (答案是三): 一 stands in 统一, 一般 and 一个 as well.
Ordinals (第三十条) are no numbers, as 21st is none. Pure functions of texts.
"""

from __future__ import annotations

import re
from decimal import Decimal

_WRITINGS = ("零〇○", "一壹弌", "二贰貳两兩", "三叁參", "四肆", "五伍", "六陆陸", "七柒", "八捌", "九玖")
"""How each digit is written, from 0."""
_DIGITS: dict[str, int] = {}
for _digit, _characters in enumerate(_WRITINGS):
    _DIGITS |= dict.fromkeys(_characters, _digit)
_SMALL = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_LARGE = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_UNITS = _SMALL | _LARGE
_ANY = "".join([*_DIGITS, *_UNITS])
_WRITTEN = rf"[{_ANY}]+(?:[点點][{''.join(_DIGITS)}]+[{''.join(_LARGE)}]*)?"
_ARABIC = rf"(?:\d+(?:\.\d+)?[{''.join(_UNITS)}]+){{2,}}(?:\d+(?![\d.]))?|(?:\d+(?:\.\d+)?[{''.join(_UNITS)}]+)\d+(?![\d.])"
_SHARE = re.compile(rf"(?P<whole>[百千万])分之(?P<sign>[负負])?(?:(?P<written>{_WRITTEN})|(?P<arabic>\d+(?:\.\d+)?))")
_NUMERAL = re.compile(
    rf"(?<![第{_ANY}几幾数數点點])(?P<sign>[负負])?(?:(?<!\d)(?P<arabic>{_ARABIC})|(?P<written>{_WRITTEN}))(?![几幾{_ANY}])"
)
_TOKEN = re.compile(rf"\d+(?:\.\d+)?|[{_ANY}]")
_ASKED = re.compile(r"(?:答案|结果|結果|等于|等於|=|共|共计|总计|总共|合计|得)\s*(?:应?该?是|为|為|:)?\s*$")
_MEASURES = (
    "公斤 千克 公里 厘米 毫米 平方米 立方米 小时 分钟 美元 欧元 日元 个月 星期 季度 "
    "个 個 项 項 条 條 元 块 塊 角 岁 歲 年 月 日 天 周 次 人 名 位 倍 吨 噸 克 米 升 秒 件 台 份 点 點 度 %"
)
_CLOSED = re.compile(rf"\s*(?:(?:{'|'.join(_MEASURES.split())})?(?:[^\w\s]|\s|$))")
"""What may follow a single character that is a number: at most a measure word, and no other word."""
_CLOCK = re.compile(r"\s*[分刻钟鐘半]")


def in_digits(text: str) -> str:
    """Return the text with its Chinese numerals as Arabic digits; what is no number stays as it is."""
    # Shares first: 百分之十五 holds numerals that would be read alone.
    text = _SHARE.sub(_share, text)
    return _NUMERAL.sub(lambda match: _numeral(match, text), text)


def _share(match: re.Match[str]) -> str:
    """Return per cent, per mille and per ten thousand, as per cent."""
    value = Decimal(match["arabic"]) if match["arabic"] else _value(match["written"])
    if value is None:
        return match[0]
    return f"{'-' if match['sign'] else ''}{_plain(value * 100 / _UNITS[match['whole']])}%"


def _numeral(match: re.Match[str], text: str) -> str:
    """Return one numeral in digits, where it is one."""
    written = match["arabic"] or match["written"]

    # 三点 with minutes behind it is a time of day, not a decimal point.
    clock = "点" in written.replace("點", "点") and _CLOCK.match(text, match.end())
    if clock or (not match["arabic"] and not _is_meant(match, text)):
        return match[0]
    sign = "-" if match["sign"] else ""
    whole, point, decimals = written.replace("點", "点").partition("点")
    if point:  # 三点五亿 keeps its unit: how many decimals are written says how exact it is
        digits = "".join(str(_DIGITS[digit]) for digit in decimals if digit in _DIGITS)
        unit = "".join(digit for digit in decimals if digit in _LARGE)
        value = _value(whole)
        return match[0] if value is None else f"{sign}{_plain(value)}.{digits}{unit}"
    value = _value(written)
    return match[0] if value is None else sign + _plain(value)


def _is_meant(match: re.Match[str], text: str) -> bool:
    """Return whether a numeral is meant as a number, and not as a part of a word."""
    written = match["written"]
    spoken = written.replace("點", "点")
    if "点" in spoken:
        return True

    # From here on: which of the words that are written with numerals are numbers.
    has_digit = any(character in _DIGITS for character in written)
    if len(written) >= 2 and any(character in _UNITS for character in written):
        return written[0] in _DIGITS or written[0] in "十拾"  # 万一 and 千万 are words
    if len(written) >= 3:
        return has_digit  # 二〇二四

    # A single character is a number only as a whole answer, or where a number is announced.
    alone = not text[: match.start()].strip() and _CLOSED.match(text, match.end()) is not None
    is_answer = _ASKED.search(text, 0, match.start()) is not None and _CLOSED.match(text, match.end()) is not None
    return (alone or is_answer) and (has_digit or written in "十拾")


def _value(written: str) -> Decimal | None:
    """Return what a numeral without a decimal point says; None where it says no one number (二三十 is twenty or thirty)."""
    whole, point, decimals = written.replace("點", "点").partition("点")
    if point:
        value = _value(whole)
        if value is None or any(digit not in _DIGITS for digit in decimals):
            return None
        return value + Decimal(f"0.{''.join(str(_DIGITS[digit]) for digit in decimals)}")

    # Digits without units are read one by one, as years and telephone numbers are.
    tokens = _TOKEN.findall(written)
    if all(token in _DIGITS for token in tokens):
        return Decimal("".join(str(_DIGITS[token]) for token in tokens))
    return _composed(tokens)


def _composed(tokens: list[str]) -> Decimal | None:
    """Return the value of digits and units: sections below ten thousand, times 万 or 亿."""
    # `section` is what stands below the present 万 or 亿, `number` the digit that waits for its unit.
    total = section = Decimal(0)
    number: Decimal | None = None
    last, zero = 1, False
    for token in tokens:
        if token in _SMALL:
            section += (Decimal(1) if number is None else number) * _SMALL[token]
            number, last, zero = None, _SMALL[token], False
        elif token in _LARGE:
            section += number or 0
            if token in "亿億":
                total = (total + (section or (0 if total else 1))) * _LARGE[token]
            else:
                total += (section or 1) * _LARGE[token]
            section, number, last, zero = Decimal(0), None, _LARGE[token], False
        else:
            value = Decimal(_DIGITS[token]) if token in _DIGITS else Decimal(token)
            if number:  # two digits in a row
                return None
            zero = zero or value == 0
            number = value

    # A last digit without a unit counts in a tenth of the last unit, unless a zero stands between.
    spoken = len(tokens[-1]) == 1 and tokens[-1] not in _UNITS and last > 10 and not zero  # 三万五 is 35000, 一百零五 is 105
    return total + section + (number or 0) * (last // 10 if spoken else 1)


def _plain(value: Decimal) -> str:
    """Return a number without an exponent or needless zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
